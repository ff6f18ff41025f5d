"""A resumable stream, the server's side: a client that was cut off reconnects, and neither side loses anything.

A session has one `ResumableConnection` from its beginning to its end. Behind it the client's connections come and go,
one at a time; `serve` is the life of one of them. Nothing is lost, because each side keeps what the other has not
acknowledged:

- The service counts the bytes of audio that it has received, and acknowledges them now and then. The client drops what
  is acknowledged. When it resumes, it is told what was acknowledged at most, and sends what comes after.
- The service keeps the finals that the client has not confirmed. When the client resumes, it says how many it has, and
  gets the rest. Of the partials only the latest is kept: a client that reads slowly, or was away, gets fewer of them.

What another process would need to go on with the stream is in its `Record`. Where a journal keeps that, only what the
journal has is acknowledged, and only such finals are sent. The messages are defined in `speechbridge.protocol.resume`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, kind_of
from speechbridge.protocol.resume import UNKNOWN_STREAM, AudioReceived, FinalsReceived, Greeting
from speechbridge.server.client import ClientConnection
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.cluster.record import Record

KEPT_FINALS = 1000  # not confirmed: half an hour of speech. A client that confirms has a few at most
KEPT_CHARACTERS = 2**20  # of these finals together
CONFIRMATIONS = 2 * KEPT_FINALS  # a second. A client that resumes may confirm all that is kept, one by one
ACKNOWLEDGE = 8000  # bytes between two acknowledgements: 250 ms of 16 kHz mono

TAKEN_OVER = Close(CloseCode.TAKEN_OVER, "another connection has taken this stream over")
UNKNOWN = Close(
    UNKNOWN_STREAM, "resume: no such stream: it has ended, its client was away for too long, or the service restarted"
)
NOT_KEPT = Close(CloseCode.BAD_REQUEST, "finals: you confirmed more before, or were never sent so many")
TOO_MANY = Close(CloseCode.POLICY, f"more than {CONFIRMATIONS} confirmations of finals a second")
TOO_SLOW = Close(CloseCode.TOO_SLOW, "too many finals are not confirmed: confirm them as they come")


@dataclass(frozen=True, slots=True)
class About:
    """What another process must know to go on with a stream, beside its record."""

    session_id: str
    read: str | None = field(default=None, repr=False)  # the token for readers, if the client shares
    query: str = ""  # of the request, without a key
    holder: str = ""  # of the place at the speech service
    begun: float = 0.0  # seconds since 1970
    frame: int | None = None  # bytes of audio, in multiples of which a stream may begin; None: at its begin only

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> About:
        return cls(**json.loads(text))


class Covered:
    """Takes down for a stream what its upstream settles, of audio from a position on. Implements `Follower`.

    The session is given the audio from there on, or all of it, of which the first `skip` bytes are settled.
    """

    def __init__(self, stream: ResumableConnection) -> None:
        record = stream.record
        self.origin = record.settled if record.is_whole else record.begin
        self.skip = record.settled if record.is_whole else 0
        self._stream = stream
        self._has_begun = False

    def settled(self, position: int) -> None:
        record = self._stream.record
        if not self._has_begun:
            self._has_begun = True
            self._stream.has_hung_up.clear()
            if not record.is_kept:
                self._stream.kept()
        record.settle(self.origin + position)

    def hung_up(self) -> None:
        self._stream.has_hung_up.set()


class Connection(ClientConnection, Protocol):
    """One of the connections of a client."""

    async def close(self, close: Close) -> None: ...

    @property
    def closed_cleanly(self) -> bool:
        """Whether the client left on purpose, with a close frame that says so."""


class ResumableConnection:
    """What a session sees of a client that may be cut off and resume. Implements `ClientConnection`.

    `away_seconds` is how long the client may be without a connection. A record of a stream that another process began
    has audio that is not settled: the session gets that first.
    """

    def __init__(self, about: About, record: Record, *, away_seconds: float) -> None:
        self.about = about
        self.record = record
        self.over = asyncio.Event()  # the session has ended, and its verdict is known
        self.has_hung_up = asyncio.Event()  # on the upstream
        self.has_hung_up.set()
        self.kept: Callable[[], object] = lambda: None  # called once it is known that the stream can be moved
        self.moves: Callable[[], object] = lambda: None  # called before its session is cut, as it is moved
        self.is_moving = False  # its session is cut, and goes on at another process
        self._away_seconds = away_seconds
        self._before = deque[bytes | str](piece for _, piece in record.audio.pieces())
        if record.has_ended:
            self._before.append(EOS)
        self._message: bytes | str | None = None  # on its way from a connection to the session, one at a time
        self._arrived, self._taken, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.has_begun = False  # the session has asked for audio
        self._receives = asyncio.Event()  # it waits for more than what was there before
        self._left = False  # the client has left for good
        self._kept_characters = sum(map(len, record.finals))
        self._partial: str | None = None
        self._verdict: Close | None = None
        record.stored = self._changed.set
        self._serving: asyncio.Task[None] | None = None
        self._handover = asyncio.Lock()
        self._away: asyncio.TimerHandle | None = None

    # ---- the session's side ------------------------------------------------------------------------------------------

    async def receive(self) -> bytes | str | None:
        """Return the next message, from whichever connection; None once the client has left for good.

        Cancellation: no message is lost.
        """
        self.has_begun = True
        if self._before:
            return self._before.popleft()
        self._receives.set()
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
        elif len(self.record.finals) < KEPT_FINALS and self._kept_characters + len(text) <= KEPT_CHARACTERS:
            self.record.add(text)
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
        self._receives.set()
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
            if not self.record.confirmed <= finals <= self.record.total:
                await connection.close(NOT_KEPT)
                return
            if self._serving is not None:
                await cancel_and_wait(self._serving)
            serving = asyncio.create_task(self._serve(connection, finals), name=f"{self.about.session_id}-connection")
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
        self.record.is_attended = True
        position = self.record.told
        await connection.send(Greeting(self.about.session_id, self.record.key, position, self.about.read).encode())
        reading = asyncio.create_task(self._read(connection, self.record.received - position))
        writing = asyncio.create_task(self._write(connection, finals, position))
        both = {reading, writing}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(*both)
            self.record.is_attended = False
            if connection.closed_cleanly and not self.over.is_set():
                self._leave()
            self._away = asyncio.get_running_loop().call_later(self._away_seconds, self._leave)

    async def _read(self, connection: Connection, known: int) -> None:
        """Take what a client sends. So many bytes of it are known: they were received, but not acknowledged."""
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
            if known and isinstance(message, bytes):
                known, message = max(0, known - len(message)), message[known:]
                if not message:
                    continue
            await self._receives.wait()
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
                self.record.receive(message)
            elif message == EOS:
                self.record.end()
            self._changed.set()
            del message  # or it would stay in memory while the next one is waited for

    async def _write(self, connection: Connection, sent: int, acknowledged: int) -> None:
        """Send what is to be sent, the most important first, and in the end the verdict.

        The client has `sent` finals, and was told that `acknowledged` bytes of audio were received.
        """
        record, shown = self.record, None
        while True:
            self._changed.clear()
            sent = max(sent, record.confirmed)
            if sent < record.shown:
                await connection.send(record.finals[sent - record.confirmed])
                sent += 1
            elif self._partial is not None and self._partial is not shown and sent == record.total:
                shown = self._partial
                await connection.send(shown)
            elif record.told - acknowledged >= ACKNOWLEDGE or (record.has_ended and record.told > acknowledged):
                acknowledged = record.told
                await connection.send(AudioReceived(acknowledged).encode())
            elif self._verdict is not None and self.over.is_set() and sent == record.total:
                await connection.close(self._verdict)
                return
            else:
                await self._changed.wait()

    def _confirm(self, finals: int) -> None:
        for final in self.record.confirm(finals):
            self._kept_characters -= len(final)

    def _leave(self) -> None:
        """Note that the client has left for good. If it resumes nevertheless, it learns that audio was lost."""
        self._left = True
        if not self.record.has_ended:
            self._verdict = self._verdict or UNKNOWN
        self._arrived.set()
