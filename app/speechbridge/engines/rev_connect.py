"""A connect with a time limit, which another thread can give up at once.

Nothing can interrupt a DNS lookup, so the connect runs in a thread of its own. If nobody waits for it any more, this
thread ends with its lookup, and closes the connection that it has opened.
"""

from __future__ import annotations

import socket
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class GivenUp(Exception):
    """Another thread gave up the connect."""


class Connecting:
    """One connect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the next three
        self._is_running = False
        self._close: Callable[[], object] | None = None  # set by `leave`
        self._failure: BaseException | None = None
        self._is_given_up = False
        self._woken = threading.Event()  # the connect has ended, or was given up

    def run(self, connect: Callable[[], object], seconds: float) -> None:
        """Connect within so many seconds. Raises TimeoutError if it takes longer, GivenUp, or what `connect` raised."""
        self._is_running = True
        threading.Thread(target=self._run, args=[connect], name="rev-connect", daemon=True).start()
        self._woken.wait(seconds)
        with self._lock:
            if self._is_running and not self._is_given_up:
                raise TimeoutError
            failure = self._failure
        if self._is_given_up:
            raise GivenUp
        if failure is not None:
            raise failure

    def give_up(self) -> None:
        """Make `run` raise GivenUp. Thread-safe, never waits."""
        self._is_given_up = True
        self._woken.set()

    def leave(self, close: Callable[[], object]) -> bool:
        """Leave the connection to the connecting thread, which calls `close`. Returns whether that still runs."""
        with self._lock:
            if self._is_running:
                self._close = close
            return self._is_running

    def _run(self, connect: Callable[[], object]) -> None:
        failure: BaseException | None = None
        try:
            connect()
        except BaseException as error:  # noqa: BLE001 # raised in the thread that waits
            failure = error
            _close_sockets(error)
        with self._lock:
            self._failure, self._is_running = failure, False
            close = self._close
        if close is not None:
            close()
        self._woken.set()


def _close_sockets(error: BaseException) -> None:
    """Close the socket of a connection that failed: websocket-client does not close one that was refused.

    The traceback keeps the local variables, and so the descriptor, for as long as anybody keeps the error.
    """
    for called, _ in traceback.walk_tb(error.__traceback__):
        found = called.f_locals.get("sock")
        if isinstance(found, socket.socket):
            found.close()
