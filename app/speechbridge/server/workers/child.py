"""One worker on its parent's side: its process, its channel, and the connections that it was given."""

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

UNTHREADED = {"OPENBLAS_NUM_THREADS": "1"}  # otherwise numpy starts a thread per core, but a worker has one core
MODULE = "speechbridge.server.workers"
LATE_SECONDS = 1.0  # without an answer, after which new connections go to other workers. Usual stalls are shorter
EOF_SECONDS = 0.5  # to wait for a dead worker's last messages; the channel stays open if a child process inherited it


class Child:
    """A worker's process. Once loaded, it waits for its name. `received` is called with its messages.

    It counts the traffic of keys and addresses in `rates`, if that is limited.
    """

    def __init__(
        self, received: Callable[[Child, Message, socket.socket | None], object], rates: Rates | None = None
    ) -> None:
        self.name = ""  # its number, as text; after a restart, another `Child` has the same
        self.started = asyncio.Event()  # it is ready, or has failed
        self.is_ready = False
        self.ready_at = 0.0
        self.failure: tuple[str, bool] | None = None  # why it cannot start, and whether a setting is to blame
        self.trouble = ""  # with the speech service
        self.connections = 0
        self.given_at = 0.0  # when it was given the latest connection
        self._received = received
        self._rates = rates
        self._process: asyncio.subprocess.Process
        self._channel: Channel
        self._closed = asyncio.Event()
        self._pending: deque[tuple[socket.socket, str]] = deque()  # connections given to it that it has not taken yet
        self._asked: dict[int, asyncio.Future[None]] = {}  # requested reports
        self._waiting_since: float | None = None  # since when an answer is due; None: none is

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
                start_new_session=True,  # a terminal sends Ctrl-C to the parent only, which forwards it
                # The working directory is the user's, and may hold modules with the names of ours or of libraries.
                env={**UNTHREADED, **os.environ, **environment} | {"PYTHONSAFEPATH": "1"},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours, self._handle, self._closed.set)

    def be(self, name: str, core: int | None) -> None:
        """Have it serve, under this name and pinned to this core."""
        self.name = name
        self._channel.send({"be": name, "core": core, "rates": self._rates and self._rates.place})

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> int:
        """Wait until it has ended and its last messages were handled; return its exit status."""
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
        """Send it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def is_late(self) -> bool:
        """Tell whether an answer is overdue, so that it may have stopped."""
        return self.unanswered_seconds() > LATE_SECONDS

    def unanswered_seconds(self) -> float:
        """Return for how many seconds an answer has been due; 0.0 if none is."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def give(self, connection: socket.socket, head: str = "") -> None:
        """Give it a connection, and what has been read of it. A copy is kept until the worker has taken it."""
        self._pending.append((connection, head))
        self.connections += 1
        self.given_at = time.monotonic()
        self._expect()
        self._channel.send({"take": True, "head": head} if head else {"take": True}, connection.dup())

    def send(self, message: Message) -> None:
        """Send a message."""
        self._channel.send(message)

    async def report(self, number: int) -> None:
        """Have it report its metrics, and wait for that. Cancellation: it still reports."""
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self._expect()
        self._channel.send({"report": number})
        await answered

    def _expect(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def _handle(self, message: Message, connection: socket.socket | None) -> None:
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
