"""One worker, as its parent sees it: a process, a channel, and the connections that it was given."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from speechbridge.server.workers.channel import Channel, Message, pair

if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Mapping

    from speechbridge.server.workers.rates import Rates

logger = logging.getLogger(__name__)

UNTHREADED = {"OPENBLAS_NUM_THREADS": "1"}  # numpy would begin a thread a core, and a worker has one core
MODULE = "speechbridge.server.workers"
LATE_SECONDS = 1.0  # without an answer, after which new connections go to other workers. A stall is shorter
EOF_SECONDS = 0.5  # for what a worker said before it died. Longer if a process of its own still has its descriptor


class Child:
    """A worker's process. It is loaded, and waits until it is named. What it says goes to `received`.

    It counts in `rates` what keys and addresses send, if that is bounded.
    """

    def __init__(
        self, received: Callable[[Child, Message, socket.socket | None], object], rates: Rates | None = None
    ) -> None:
        self.name = ""  # its number; one that is restarted has it again, as another `Child`
        self.started = asyncio.Event()  # it is ready, or has failed
        self.is_ready = False
        self.ready_at = 0.0
        self.failure: tuple[str, bool] | None = None  # why it cannot start, and whether a setting is to blame
        self.trouble = ""  # with the speech service
        self.connections = 0
        self.given_at = 0.0  # when it was given the last one
        self._received = received
        self._rates = rates
        self._process: asyncio.subprocess.Process
        self._channel: Channel
        self._closed = asyncio.Event()
        self._pending: deque[tuple[socket.socket, str]] = deque()  # given, and not yet taken
        self._asked: dict[int, asyncio.Future[None]] = {}  # reports
        self._waiting_since: float | None = None  # for it to answer anything

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = pair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULE,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *([self._rates.descriptor] if self._rates else [])],
                start_new_session=True,  # a terminal's Ctrl-C comes to the parent alone, which passes it on
                # The working directory is the user's, and may hold modules that are named as ours or as a library.
                env={**UNTHREADED, **os.environ, **environment} | {"PYTHONSAFEPATH": "1"},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours, self._heard, self._closed.set)

    def be(self, name: str, core: int | None) -> None:
        """Have it serve, under this name, and keep to this core."""
        self.name = name
        self._channel.send({"be": name, "core": core, "rates": self._rates and self._rates.place})

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> int:
        """Wait until it has ended, and all that it said was heard; return its exit status."""
        status = await self._process.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), EOF_SECONDS)
        self._channel.close()
        self.is_ready = False
        self.started.set()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(None)
        return status

    def orphans(self) -> list[tuple[socket.socket, str]]:
        """Return the connections that it was given and did not take before it died, each with its head: see `give`."""
        left = list(self._pending)
        self._pending.clear()
        return left

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Nothing happens if it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def is_late(self) -> bool:
        """Tell whether it has not answered for so long that it may have stopped."""
        return self.silent_for() > LATE_SECONDS

    def silent_for(self) -> float:
        """Return the seconds for which an answer of it is due."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def give(self, connection: socket.socket, head: str = "") -> None:
        """Hand a connection over, with what has been read of it already. It is kept until it is taken."""
        self._pending.append((connection, head))
        self.connections += 1
        self.given_at = time.monotonic()
        self._expect()
        self._channel.send({"take": True, "head": head} if head else {"take": True}, connection.dup())

    def send(self, message: Message) -> None:
        """Send a message."""
        self._channel.send(message)

    async def report(self, number: int) -> None:
        """Have it report its metrics, and wait for that. Cancellation: it is still to report."""
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self._expect()
        self._channel.send({"report": number})
        await answered

    def _expect(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def _heard(self, message: Message, connection: socket.socket | None) -> None:
        if "taken" in message:
            if self._pending:
                self._pending.popleft()[0].close()
        elif "over" in message:
            self.connections -= 1
        elif "loaded" in message:
            logger.debug("process %d is loaded", self.pid)
        elif "ready" in message:
            self.is_ready, self.ready_at = True, time.monotonic()
            self.started.set()
        elif "failed" in message:
            self.failure = message["failed"], message["is_wrong"]
        elif "reported" in message:
            self.trouble = message["trouble"]
            if (asked := self._asked.pop(message["reported"], None)) is not None and not asked.done():
                asked.set_result(None)
        is_answered = not self._pending and not self._asked
        self._waiting_since = None if is_answered else time.monotonic()
        self._received(self, message, connection)
