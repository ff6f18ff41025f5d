"""A line that outlives its connections: a client that was cut off comes back, and neither side loses a thing.

A session talks to one `ResumableConnection` from its beginning to its end. Connections come and go behind it, one at a
time: `serve` is the life of one of them. What both sides keep makes that safe:

- The service counts the bytes of audio it was given and tells the client now and then; what it was told of, the client
  forgets. One that comes back is told the count again, and goes on from there.
- The service keeps the finals that the client has not confirmed; one that comes back says how many it has, and gets
  the rest. Of the partials only the latest counts, so a reader that is slow, or was away, gets fewer of them.

What is said on the wire stands in `speechbridge.protocol.resume`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, kind_of
from speechbridge.protocol.resume import UNKNOWN_STREAM, AudioReceived, FinalsReceived, Greeting

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

AWAY_SECONDS = 60.0  # how long a client may be away
KEPT_FINALS = 1000  # not confirmed: half an hour of speech. One that lets more pile up does not play by the rules
ACKNOWLEDGE = 8000  # bytes between two acknowledgements: 250 ms of 16 kHz mono

TAKEN_OVER = Close(CloseCode.TAKEN_OVER, "another connection has taken this stream over")
UNKNOWN = Close(UNKNOWN_STREAM, "resume: there is no such stream; it has ended, or its client was away too long")
NOT_KEPT = Close(CloseCode.BAD_REQUEST, "finals: more were confirmed before, or fewer were ever sent")
TOO_SLOW = Close(CloseCode.TOO_SLOW, "too many finals wait to be confirmed")


class Connection(Protocol):
    """One of a client's connections."""

    async def receive(self) -> bytes | str | None: ...

    async def send(self, text: str) -> None: ...

    async def close(self, close: Close) -> None: ...

    @property
    def closed_cleanly(self) -> bool:
        """Whether the client left on purpose, with a close frame that says so."""


class ResumableConnection:
    """What a session sees of a client that may be cut off and come back. Implements `Line`."""

    def __init__(self, *, away_seconds: float = AWAY_SECONDS) -> None:
        self.key = secrets.token_urlsafe(18)
        self.received = 0  # bytes of audio
        self.over = asyncio.Event()  # the session is, and its verdict stands
        self._away_seconds = away_seconds
        self._message: bytes | str | None = None  # one, handed from the connection to the session
        self._arrived, self._taken, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._left = False
        self._ended = False
        self._finals: deque[str] = deque()  # not confirmed; the first is number `_confirmed`
        self._confirmed = 0
        self._partial: str | None = None
        self._verdict: Close | None = None
        self._serving: asyncio.Task[None] | None = None
        self._handover = asyncio.Lock()
        self._away: asyncio.TimerHandle | None = None

    # ---- the session's side ------------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return the next message, of whichever connection; None once the client has left for good."""
        while self._message is None and not self._left:
            self._arrived.clear()
            await self._arrived.wait()
        message, self._message = self._message, None
        self._taken.set()
        return message

    async def send(self, text: str) -> None:
        """Keep a response for the client. Never waits: a final is kept until it is confirmed, a partial replaced.

        Raises UnicodeEncodeError for half of a surrogate pair, which no connection can send.
        """
        text.encode()
        if kind_of(text) != "final":
            self._partial = text
        elif len(self._finals) < KEPT_FINALS:
            self._finals.append(text)
            self._partial = None
        else:
            self._verdict = self._verdict or TOO_SLOW
            self._leave()
        self._changed.set()

    def end(self, verdict: Close) -> None:
        """Have the client told how the session ended, once it has all finals."""
        self._verdict = self._verdict or verdict
        self.over.set()
        self._changed.set()

    # ---- the connections' side ---------------------------------------------------------------------------------------

    async def serve(self, connection: Connection, session_id: str, finals: int = 0) -> None:
        """Be this connection's life. The one before it is closed first.

        Cancellation: the connection is done with, the line is not.
        """
        async with self._handover:  # several may come back at once; each takes over from the one before it
            if not self._confirmed <= finals <= self._confirmed + len(self._finals):
                await connection.close(NOT_KEPT)
                return
            if self._serving is not None:
                self._serving.cancel()
                await asyncio.gather(self._serving, return_exceptions=True)
            serving = asyncio.create_task(self._serve(connection, session_id, finals), name=f"{session_id}-connection")
            self._serving = serving
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            if not serving.cancelled():  # we are, not it
                serving.cancel()
                raise
            await connection.close(TAKEN_OVER)

    async def _serve(self, connection: Connection, session_id: str, finals: int) -> None:
        if self._away is not None:
            self._away.cancel()
        self._confirm(finals)
        await connection.send(Greeting(session_id, self.key, self.received).encode())
        reading = asyncio.create_task(self._read(connection))
        writing = asyncio.create_task(self._write(connection, finals))
        both = {reading, writing}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            if connection.closed_cleanly and not self.over.is_set():
                self._leave()
            self._away = asyncio.get_running_loop().call_later(self._away_seconds, self._leave)

    async def _read(self, connection: Connection) -> None:
        while (message := await connection.receive()) is not None:
            confirmed = FinalsReceived.parse(message) if isinstance(message, str) else None
            if confirmed is not None:
                self._confirm(confirmed.finals)
                continue
            while self._message is not None:
                self._taken.clear()
                await self._taken.wait()
            self._message = message
            self._arrived.set()
            # No await since it was handed over: either it is, and counted, or it is not and comes again.
            if isinstance(message, bytes):
                self.received += len(message)
            elif message == EOS:
                self._ended = True
            self._changed.set()

    async def _write(self, connection: Connection, sent: int) -> None:
        """Send what there is to send, the most important first; end with the verdict."""
        shown: str | None = None
        acknowledged = self.received
        while True:
            self._changed.clear()
            sent = max(sent, self._confirmed)
            if sent < self._confirmed + len(self._finals):
                await connection.send(self._finals[sent - self._confirmed])
                sent += 1
            elif self._partial is not None and self._partial is not shown:
                shown = self._partial
                await connection.send(shown)
            elif self.received - acknowledged >= ACKNOWLEDGE or (self._ended and self.received > acknowledged):
                acknowledged = self.received
                await connection.send(AudioReceived(acknowledged).encode())
            elif self._verdict is not None and self.over.is_set():
                await connection.close(self._verdict)
                return
            else:
                await self._changed.wait()

    def _confirm(self, finals: int) -> None:
        while self._finals and self._confirmed < finals:
            self._finals.popleft()
            self._confirmed += 1

    def _leave(self) -> None:
        """Take it that the client has left. Should it come back after all, what it still had to say was not heard."""
        self._left = True
        if not self._ended:
            self._verdict = self._verdict or UNKNOWN
        self._arrived.set()


class ResumableConnections:
    """The lines that can be come back to, by their keys. Those whose session has ended stay for a while."""

    def __init__(self, *, away_seconds: float, most: int) -> None:
        self._away_seconds = away_seconds
        self._most = most
        self._lines: dict[str, tuple[ResumableConnection, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, session_id: str) -> ResumableConnection:
        """Make a line, which stays until `forget`."""
        line = ResumableConnection(away_seconds=self._away_seconds)
        self._lines[line.key] = line, session_id
        return line

    def find(self, key: str) -> tuple[ResumableConnection, str] | None:
        """Return a line and its session's id."""
        return self._lines.get(key)

    def run(self, line: ResumableConnection, session: Coroutine[Any, Any, Close]) -> None:
        """Run a line's session in a task of its own: it outlives the connection that began it."""

        async def live() -> None:
            try:
                line.end(await session)
            finally:
                line.over.set()
                self._retire(line)

        task = asyncio.create_task(live(), name="durable-session")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _retire(self, line: ResumableConnection) -> None:
        """Keep an ended line for whoever was cut off during its last words; the oldest go when there are many."""
        ended = [key for key, (known, _) in self._lines.items() if known.over.is_set()]
        for key in ended[: max(0, len(ended) - self._most)]:
            self._forget(key)
        asyncio.get_running_loop().call_later(self._away_seconds, self._forget, line.key)

    def _forget(self, key: str) -> None:
        self._lines.pop(key, None)
