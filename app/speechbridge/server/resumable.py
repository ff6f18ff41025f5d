"""Resumable streams, the server's side: a client that was cut off reconnects, and neither side loses anything.

A session has one `ResumableConnection` from its beginning to its end. Behind it the client's connections come and go,
one at a time; `serve` is the life of one of them. Nothing is lost, because each side keeps what the other has not
acknowledged:

- The service counts the bytes of audio that it has received, and acknowledges them now and then. The client drops what
  is acknowledged. When it resumes, it is told the count, and sends what comes after.
- The service keeps the finals that the client has not confirmed. When the client resumes, it says how many it has, and
  gets the rest. Of the partials only the latest is kept: a client that reads slowly, or was away, gets fewer of them.

The messages are defined in `speechbridge.protocol.resume`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, kind_of
from speechbridge.protocol.resume import UNKNOWN_STREAM, AudioReceived, FinalsReceived, Greeting
from speechbridge.server.client import ClientConnection
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from speechbridge.settings import SessionSettings

KEPT_FINALS = 1000  # not confirmed: half an hour of speech. A client that confirms has a few at most
KEPT_CHARACTERS = 2**20  # of these finals together
CONFIRMATIONS = 2 * KEPT_FINALS  # a second. A client that resumes may confirm all that is kept, one by one
ACKNOWLEDGE = 8000  # bytes between two acknowledgements: 250 ms of 16 kHz mono

TAKEN_OVER = Close(CloseCode.TAKEN_OVER, "another connection has taken this stream over")
UNKNOWN = Close(UNKNOWN_STREAM, "resume: no such stream: it has ended, or its client was away for too long")
NOT_KEPT = Close(CloseCode.BAD_REQUEST, "finals: you confirmed more before, or were never sent so many")
CUT = Close(CloseCode.INTERNAL, "the stream was cut")
TOO_MANY = Close(CloseCode.POLICY, f"more than {CONFIRMATIONS} confirmations of finals a second")
TOO_SLOW = Close(CloseCode.TOO_SLOW, "too many finals are not confirmed: confirm them as they come")


class Connection(ClientConnection, Protocol):
    """One of the connections of a client."""

    async def close(self, close: Close) -> None: ...

    @property
    def closed_cleanly(self) -> bool:
        """Whether the client left on purpose, with a close frame that says so."""


class ResumableConnection:
    """What a session sees of a client that may be cut off and resume. Implements `ClientConnection`.

    `away_seconds` is how long the client may be without a connection. The key begins with `prefix`.
    """

    def __init__(
        self, session_id: str, owner: str = "", read: str | None = None, *, away_seconds: float, prefix: str = ""
    ) -> None:
        self.session_id = session_id
        self.read = read  # the token for readers, if the client shares
        self.owner = owner  # of the API key with which it began; only with a key of the same owner it can be resumed
        self.key = prefix + secrets.token_urlsafe(18)
        self.received = 0  # bytes of audio
        self.over = asyncio.Event()  # the session has ended, and its verdict is known
        self._away_seconds = away_seconds
        self._message: bytes | str | None = None  # on its way from a connection to the session, one at a time
        self._arrived, self._taken, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._left = False  # the client has left for good
        self._ended = False  # the client has ended its input
        self._finals: deque[str] = deque()  # not confirmed; the first of them is number `_confirmed`
        self._confirmed = self._kept_characters = 0
        self._partial: str | None = None
        self._verdict: Close | None = None
        self._serving: asyncio.Task[None] | None = None
        self._handover = asyncio.Lock()
        self._away: asyncio.TimerHandle | None = None

    # ---- the session's side ------------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return the next message, from whichever connection; None once the client has left for good.

        Cancellation: no message is lost.
        """
        while self._message is None and not self._left:
            self._arrived.clear()
            await self._arrived.wait()
        message, self._message = self._message, None
        self._taken.set()
        return message

    async def send(self, text: str) -> None:
        """Keep a response for the client. Never waits. A final is kept until it is confirmed, a partial until the next.

        Raises UnicodeEncodeError for half of a surrogate pair, which no connection can send.
        """
        text.encode()
        if kind_of(text) != "final":
            self._partial = text
        elif len(self._finals) < KEPT_FINALS and self._kept_characters + len(text) <= KEPT_CHARACTERS:
            self._finals.append(text)
            self._kept_characters += len(text)
            self._partial = None
        else:
            self._verdict = self._verdict or TOO_SLOW
            self._leave()
        self._changed.set()

    def end(self, verdict: Close) -> None:
        """Close the client's connection with this verdict once it has all finals. What it still sends is dropped."""
        self._verdict = self._verdict or verdict
        self._message = None
        self.over.set()
        self._taken.set()
        self._changed.set()

    def forget(self) -> None:
        """Wait for the client no longer."""
        if self._away is not None:
            self._away.cancel()

    # ---- the connections' side ---------------------------------------------------------------------------------------

    async def serve(self, connection: Connection, finals: int = 0) -> None:
        """Serve one connection until it ends. The connection before it is closed first.

        Cancellation: this connection is no longer served; the client may resume on another.
        """
        async with self._handover:  # several may resume at once; each takes over from the one before it
            if not self._confirmed <= finals <= self._confirmed + len(self._finals):
                await connection.close(NOT_KEPT)
                return
            if self._serving is not None:
                await cancel_and_wait(self._serving)
            serving = asyncio.create_task(self._serve(connection, finals), name=f"{self.session_id}-connection")
            self._serving = serving
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            if not serving.cancelled():  # we were cancelled, and not `serving`
                serving.cancel()
                raise
            await connection.close(TAKEN_OVER)

    async def _serve(self, connection: Connection, finals: int) -> None:
        if self._away is not None:
            self._away.cancel()
        self._confirm(finals)
        position = self.received
        await connection.send(Greeting(self.session_id, self.key, position, self.read).encode())
        reading = asyncio.create_task(self._read(connection))
        writing = asyncio.create_task(self._write(connection, finals, position))
        both = {reading, writing}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(*both)
            if connection.closed_cleanly and not self.over.is_set():
                self._leave()
            self._away = asyncio.get_running_loop().call_later(self._away_seconds, self._leave)

    async def _read(self, connection: Connection) -> None:
        clock, second, confirmations = asyncio.get_running_loop().time, 0, 0
        while (message := await connection.receive()) is not None:
            confirmed = FinalsReceived.parse(message) if isinstance(message, str) else None
            if confirmed is not None:
                now = int(clock())
                second, confirmations = (now, confirmations + 1) if now == second else (now, 1)
                if confirmations > CONFIRMATIONS:
                    await connection.close(TOO_MANY)
                    return
                self._confirm(confirmed.finals)
                continue
            while self._message is not None:
                self._taken.clear()
                await self._taken.wait()
            if self.over.is_set():
                continue
            self._message = message
            self._arrived.set()
            # No await since it was handed over. So it is either handed over and counted, or neither: then it is sent
            # again when the client resumes.
            if isinstance(message, bytes):
                self.received += len(message)
            elif message == EOS:
                self._ended = True
            self._changed.set()
            del message  # or it would stay in memory while the next one is waited for

    async def _write(self, connection: Connection, sent: int, acknowledged: int) -> None:
        """Send what is to be sent, the most important first, and in the end the verdict.

        The client has `sent` finals, and was told that `acknowledged` bytes of audio were received.
        """
        shown: str | None = None
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
            self._kept_characters -= len(self._finals.popleft())
            self._confirmed += 1

    def _leave(self) -> None:
        """Note that the client has left for good. If it resumes nevertheless, it learns that audio was lost."""
        self._left = True
        if not self._ended:
            self._verdict = self._verdict or UNKNOWN
        self._arrived.set()


class ResumableConnections:
    """The resumable streams, by their keys. A stream stays for a while after its session has ended.

    With a `prefix`, by which all keys begin, other processes know whose a stream is.
    """

    def __init__(self, settings: SessionSettings, *, prefix: str = "") -> None:
        self._prefix = prefix
        self._away_seconds = settings.resume_seconds
        self._most_ended = settings.max_sessions
        self._streams: dict[str, ResumableConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, session_id: str, owner: str = "", read: str | None = None) -> ResumableConnection:
        """Make the connection of a new session, to be run with `run`."""
        stream = ResumableConnection(session_id, owner, read, away_seconds=self._away_seconds, prefix=self._prefix)
        self._streams[stream.key] = stream
        return stream

    def find(self, key: str, owner: str = "") -> ResumableConnection | None:
        """Return the stream of a resume key; None if there is none (any more), or if it is another owner's."""
        stream = self._streams.get(key)
        return stream if stream is not None and stream.owner == owner else None

    def run(self, stream: ResumableConnection, session: Coroutine[Any, Any, Close]) -> None:
        """Run a stream's session in a task of its own: it outlives the connection on which it began."""

        async def live() -> None:
            verdict = CUT
            try:
                verdict = await session
            finally:
                stream.end(verdict)
                self._retire(stream)

        task = asyncio.create_task(live(), name="resumable-session")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _retire(self, stream: ResumableConnection) -> None:
        """Keep a stream that ended for a client that was cut off before its last results; evict the oldest of many."""
        ended = [key for key, known in self._streams.items() if known.over.is_set()]
        for key in ended[: max(0, len(ended) - self._most_ended)]:
            self._forget(key)
        asyncio.get_running_loop().call_later(self._away_seconds, self._forget, stream.key)

    def _forget(self, key: str) -> None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            stream.forget()
