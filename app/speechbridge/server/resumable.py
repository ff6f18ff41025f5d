"""A resumable stream, on the server's side: a client whose connection was lost reconnects, and nothing is lost.

A session has one `ResumableConnection` from its beginning to its end. The client's connections come and go behind it,
one at a time; `serve` handles one of them. Nothing is lost, because each side keeps what the other has not
acknowledged:

- The service counts the bytes of audio that it has received, and acknowledges them now and then. The client drops
  acknowledged audio. When it resumes, the service sends the acknowledged position, and the client sends the audio from
  there on.
- The service keeps the finals that the client has not confirmed. When the client resumes, it sends how many it has, and
  gets the rest. Of the partials only the latest is kept: a client that reads slowly, or was disconnected, gets fewer.

The stream's `Record` holds all that another process needs to continue the stream. If a journal keeps the record, only
stored audio is acknowledged, only stored finals are sent, and `connected` waits until the journal has the stream. The
messages are defined in `speechbridge.protocol.resume`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Protocol

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, kind_of
from speechbridge.protocol.reading import token_of
from speechbridge.protocol.resume import UNKNOWN_STREAM, AudioReceived, FinalsReceived, Greeting
from speechbridge.server.client import ClientConnection
from speechbridge.server.settling import Before
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.cluster.record import Record

KEPT_FINALS = 1000  # unconfirmed finals, at most: half an hour of speech. A client that confirms them has only a few
KEPT_CHARACTERS = 2**20  # of these finals together
HELD_FINALS = KEPT_FINALS // 2  # of them, at most, that are kept only for readers at other processes
CONFIRMATIONS = 2 * KEPT_FINALS  # a second. A client that resumes may confirm all kept finals, one by one
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
    """What another process needs to continue a stream, besides the other fields of its record."""

    session_id: str
    read: str | None = field(default=None, repr=False)  # the token for readers, if the client shares: that of the key
    query: str = ""  # of the request, without a key
    holder: str = ""  # the holder of the lease at the speech service
    begun: float = 0.0  # seconds since 1970
    frame: int | None = None  # bytes; an upstream can begin at multiples of it. None: at the stream's start only

    def encode(self) -> str:
        """Write it, without the token: whoever sees this may not read along."""
        return json.dumps(asdict(self) | {"read": self.read is not None})

    @classmethod
    def parse(cls, text: str, key: str) -> About:
        """Read it, of the stream with this key. What a newer version has in addition is left out."""
        known = {one.name for one in fields(cls)}
        found = {name: value for name, value in json.loads(text).items() if name in known}
        return cls(**found | {"read": token_of(key) if found.get("read") else None})


class Covered:
    """Records which audio of a stream its upstream has settled. Implements `Follower`.

    The session is given the audio from the record's beginning on. If the record has all of the audio, the SDK does not
    get what is settled. `origin` is the position where the SDK's audio begins.
    """

    def __init__(self, stream: ResumableConnection) -> None:
        record = stream.record
        self.origin = record.settled if record.is_whole else record.begin
        known = record.audio.end - record.begin
        self.before = (
            Before(known=known, skip=record.settled) if record.is_whole else Before(record.begin, known, again=known)
        )
        self._stream = stream
        self._has_begun = False

    def settled(self, position: int) -> None:
        record = self._stream.record
        if not self._has_begun:
            self._has_begun = True
            self._stream.has_disconnected.clear()
            if not record.is_kept:
                self._stream.kept()
        record.settle(self.origin + position)

    def disconnected(self) -> None:
        self._stream.has_disconnected.set()


class Connection(ClientConnection, Protocol):
    """One of the connections of a client."""

    async def close(self, close: Close) -> None: ...

    @property
    def closed_cleanly(self) -> bool:
        """Whether the client has left on purpose, with a close frame of code 1000 or 1001."""


class ResumableConnection:
    """A session's connection to a client that may disconnect and resume. Implements `ClientConnection`.

    `away_seconds` is how long the client may be without a connection. If the stream was taken over from another
    process, its record has unsettled audio: the session gets that first.
    """

    def __init__(self, about: About, record: Record, *, away_seconds: float) -> None:
        self.about = about
        self.record = record
        self.over = asyncio.Event()  # the session has ended, and its verdict is known
        self.has_disconnected = asyncio.Event()  # there is no upstream connection
        self.has_disconnected.set()
        self.kept: Callable[[], object] = lambda: None  # called once it is known that the stream can be moved
        self.moves: Callable[[], object] = lambda: None  # called before its session is cut in order to move the stream
        self.shared: Callable[[], int | None] = lambda: None  # returns how many finals are stored for readers
        self.is_moving = False  # its session is cut, and the stream goes on at another process
        self._away_seconds = away_seconds
        self._before = deque[bytes | str](piece for _, piece in record.audio.pieces())
        if record.has_ended:
            self._before.append(EOS)
        self._message: bytes | str | None = None  # handed from a connection to the session, one at a time
        self._arrived, self._taken, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.has_begun = False  # the session has asked for audio
        self._receives = asyncio.Event()  # the session has taken all earlier audio, and waits for new messages
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
        """Return the next message, from any connection; None once the client has left for good.

        Cancellation: no message is lost.
        """
        if not self.has_begun:
            self.has_begun = True
            self._changed.set()
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
        """Keep a response for the client. Never waits.

        A final is kept until it is confirmed, a partial until the next response. Raises UnicodeEncodeError for half of
        a surrogate pair, which no connection can send.
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
        """Close the client's connection with this verdict once it has all finals. Further messages are dropped."""
        self._verdict = self._verdict or verdict
        self._message = None
        self.over.set()
        self._receives.set()
        self._taken.set()
        self._changed.set()

    def forget(self) -> None:
        """Stop waiting for the client."""
        if self._away is not None:
            self._away.cancel()

    # ---- the connections' side ---------------------------------------------------------------------------------------

    async def serve(self, connection: Connection, finals: int = 0) -> None:
        """Serve one connection until it ends. The previous connection is closed first.

        Cancellation: this connection is no longer served; the client can resume on another one.
        """
        async with self._handover:  # several connections may resume at once; each takes over from the previous one
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
        self.record.is_connected = True
        both: set[asyncio.Task[None]] = set()
        try:
            await self._may_be_resumed()
            position = self.record.acknowledgeable
            await connection.send(Greeting(self.about.session_id, self.record.key, position, self.about.read).encode())
            both.add(asyncio.create_task(self._read(connection, self.record.received - position)))
            both.add(asyncio.create_task(self._write(connection, finals, position)))
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(*both)
            self.record.is_connected = False
            if connection.closed_cleanly and not self.over.is_set():
                self._leave()
            self._away = asyncio.get_running_loop().call_later(self._away_seconds, self._leave)

    async def _may_be_resumed(self) -> None:
        """Wait until another process could continue the stream, if any ever can: only then may the client get its key.

        A journal has the stream a moment after the session has begun, or gives that up within seconds.
        """
        while not (self.record.is_stored or self.over.is_set() or (self.has_begun and not self.record.is_kept)):
            self._changed.clear()
            await self._changed.wait()

    async def _read(self, connection: Connection, known: int) -> None:
        """Take a client's messages. Skip its first `known` bytes of audio: they were received, but not acknowledged."""
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
            # There is no await between handing it over and counting it. So a cancellation cannot separate the two: a
            # message that was not handed over is not counted, and is sent again when the client resumes.
            if isinstance(message, bytes):
                self.record.receive(message)
            elif message == EOS:
                self.record.end()
            self._changed.set()
            del message  # otherwise it stays in memory while this waits for the next one

    async def _write(self, connection: Connection, sent: int, acknowledged: int) -> None:
        """Send messages, the most important first, and close with the verdict at the end.

        The client has `sent` finals, and `acknowledged` bytes of its audio were acknowledged.
        """
        record, partial = self.record, None
        while True:
            self._changed.clear()
            sent = max(sent, record.confirmed)
            if sent < record.deliverable:
                await connection.send(record.finals[sent - record.confirmed])
                sent += 1
            elif self._partial is not None and self._partial is not partial and sent == record.total:
                partial = self._partial
                await connection.send(partial)
            elif record.acknowledgeable - acknowledged >= ACKNOWLEDGE or (
                record.has_ended and record.acknowledgeable > acknowledged
            ):
                acknowledged = record.acknowledgeable
                await connection.send(AudioReceived(acknowledged).encode())
            elif self._verdict is not None and self.over.is_set() and sent == record.total:
                await connection.close(self._verdict)
                return
            else:
                await self._changed.wait()

    def _confirm(self, finals: int) -> None:
        """Forget finals that the client has, unless readers would miss them if this process died now."""
        if (shared := self.shared()) is not None:
            finals = max(min(finals, shared), finals - HELD_FINALS)
        for final in self.record.confirm(finals):
            self._kept_characters -= len(final)

    def _leave(self) -> None:
        """Note that the client has left for good. If it resumes nevertheless, the verdict says that audio was lost."""
        self._left = True
        if not self.record.has_ended:
            self._verdict = self._verdict or UNKNOWN
        self._arrived.set()
