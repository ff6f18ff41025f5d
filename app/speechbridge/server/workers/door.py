"""Accepts connections, and gives each to the worker with the fewest."""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING

from speechbridge.server.run import bound_stalls

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from speechbridge.server.workers.channel import Message
    from speechbridge.server.workers.child import Child

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 32  # connections, before the event loop handles other events
PAUSE_SECONDS = 1.0  # for which no connection is accepted after descriptors or memory have run out
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Door:
    """Accepts connections for all workers, and owns the listeners. `running` returns the workers that serve."""

    def __init__(self, listeners: Sequence[socket.socket], running: Callable[[], list[Child]]) -> None:
        self._listeners = listeners
        self._running = running
        self._is_open = False
        self._waiting: list[tuple[socket.socket, str]] = []  # connections accepted while no worker runs
        self._pause: asyncio.TimerHandle | None = None
        self.can_move = False  # a stream, to another worker than its own
        for listener in listeners:
            listener.setblocking(False)
            bound_stalls(listener)

    def open(self) -> None:
        """Accept connections from now on. Idempotent."""
        self._pause = None
        if not self._is_open:
            self._is_open = True
            for listener in self._listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        waiting, self._waiting = self._waiting, []
        for connection, head in waiting:
            self._hand_out(connection, head)

    def close(self) -> None:
        """Close the listeners."""
        self._wait()
        if self._pause is not None:
            self._pause.cancel()
        for each in (*self._listeners, *(connection for connection, _ in self._waiting)):
            each.close()

    def died(self, child: Child) -> None:
        """Give connections that a dead worker did not take to others. If no worker runs, connections wait."""
        orphans = child.orphans()
        if not self._running():
            self._wait()
        for connection, head in orphans:
            self._hand_out(connection, head)

    def hand_on(self, child: Child, message: Message, connection: socket.socket) -> None:
        """Give a connection to the worker that owns its stream; back to `child`, if that is gone or does not answer."""
        owner = next((each for each in self._running() if each.name == message["hand_on"]), child)
        (child if owner.is_late() and self.can_move else owner).give(connection, message["head"])

    def _wait(self) -> None:
        """Stop accepting: connections wait in the listeners' backlog."""
        if self._is_open:
            self._is_open = False
            for listener in self._listeners:
                asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                logger.error("no connection can be accepted (%s): trying again in %g s", error, PAUSE_SECONDS)  # noqa: TRY400 # a traceback adds nothing
                self._wait()
                self._pause = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self.open)
                return
            self._hand_out(connection)

    def _hand_out(self, connection: socket.socket, head: str = "") -> None:
        """Give a connection to the worker with the fewest, of those that are not late; ties take turns."""
        workers = self._running()
        if workers:
            min(workers, key=lambda each: (each.is_late(), each.connections, each.given_at)).give(connection, head)
        else:  # the last worker has just died
            self._waiting.append((connection, head))
