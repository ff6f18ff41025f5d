"""Sessions one after another on one connection, for protocols whose clients may flush: OpenAI's and Deepgram's.

A flush asks for the final results of the audio so far, and audio may follow it at once. No speech SDK can do that, but
all can end their input. So a flush ends the input of one session, and the next audio begins another, whose `start_ts`
is the seconds of audio so far: times run on.

    waiting --audio--> session --flush--> flushing --its results are all sent--> waiting
       ^                  |                   |
       |                  +--end, close, refusal, drain, time limit--> the connection's close frame
       +-----------------------------------------------------------------+

No session runs while a client waits, so none is taken up. While a session is flushed, nothing but the client's close
matters: `ReadAhead` looks for it, keeps what comes before it, and stops reading once that is a lot.

Limits see one stream: its longest duration counts from the first audio, over all sessions and the waits between them. A
flush may come in the middle of a sample, whose first bytes then go to both sessions: the next begins on a whole one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from speechbridge.codecs.samples import FORMATS
from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode
from speechbridge.protocol.messages import EOS
from speechbridge.server.client import ClientConnection
from speechbridge.server.verdicts import DRAINED, TOO_LONG
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.protocol.request import ContentType, StreamRequest
    from speechbridge.server.session import Sessions
    from speechbridge.server.totals import Totals

FLUSH = "FLUSH"  # from `receive`, as EOS is: finish what came before

KEPT_BYTES = 2**20  # of messages that are read ahead; one more may be as large as a message may be
KEPT_MESSAGES = 512  # likewise: ten seconds in chunks of 20 ms


LARGEST = 80  # bytes of a sample of all channels: ten of eight bytes
LEAST = 0.001  # seconds; 0 would be no limit
ANSWERED = (CloseCode.NORMAL, CloseCode.SHUTTING_DOWN, CloseCode.TOO_LONG)  # what came before was answered


class FlushableConnection(ClientConnection, Protocol):
    """A client whose protocol has a flush. `receive` returns audio, FLUSH, EOS or None; an empty message is no audio.

    `receive` is not called while a session is flushed.
    """

    def request(self, start_ts: float) -> StreamRequest:
        """Return what the audio that begins now is, and what is asked of it. Only samples can be flushed."""

    async def flushed(self) -> None:
        """Be told that all results of what was flushed were sent. Also where there was nothing to flush."""

    async def left(self) -> None:
        """Return once the client has left. Cancellation: no message is lost."""


class ReadAhead:
    """Reads from a connection, and may look for its end before the messages are taken."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._kept: deque[bytes | str | None] = deque()
        self._bytes = 0

    async def receive(self) -> bytes | str | None:
        """Return the next message, None once the client has left. Cancellation: no message is lost."""
        if not self._kept:
            self._keep(await self._connection.receive())
        message = self._kept[0]
        if message is not None:  # there is nothing to receive after that
            self._kept.popleft()
            self._bytes -= len(message)
        return message

    async def left(self) -> None:
        """Return once the client has left; wait for ever once much has come instead. Cancellation: nothing is lost."""
        while not self._kept or self._kept[-1] is not None:
            if self._bytes >= KEPT_BYTES or len(self._kept) >= KEPT_MESSAGES:
                await asyncio.Event().wait()  # until it is cancelled
            self._keep(await self._connection.receive())

    def _keep(self, message: bytes | str | None) -> None:
        self._kept.append(message)
        self._bytes += len(message or "")


class _Part:
    """The connection as one of its sessions sees it: from its first audio to a flush, or to the end."""

    def __init__(self, connection: FlushableConnection, first: bytes) -> None:
        self._connection = connection
        self._first: bytes | None = first
        self._last = b""  # of the audio: a sample of all channels at most
        self.size = 0  # bytes of audio
        self.flushed = False
        self.is_last = False  # the client has ended its input, or left

    async def receive(self) -> bytes | str | None:
        if self._first is not None:
            audio, self._first = self._first, None
            return self._counted(audio)
        if self.flushed or self.is_last:
            await self._connection.left()
            self.is_last = True
            return None
        message = await self._connection.receive()
        if isinstance(message, bytes):
            return self._counted(message)
        if message == FLUSH:
            self.flushed = True
            return EOS
        self.is_last = message in (EOS, None)
        return message

    async def send(self, text: str) -> None:
        await self._connection.send(text)

    def rest(self, frame: int) -> bytes:
        """Return the bytes after the last whole sample: the next audio goes on in the middle of it."""
        count = self.size % frame
        return self._last[-count:] if count else b""

    def _counted(self, audio: bytes) -> bytes:
        self.size += len(audio)
        self._last = (self._last + audio)[-LARGEST:] if len(audio) < LARGEST else audio[-LARGEST:]
        return audio


async def run_successively(
    sessions: Sessions,
    connection: FlushableConnection,
    ended: Callable[[Totals], object] = lambda _totals: None,
) -> Close:
    """Run the sessions of one connection until it ends; return how to close it. `ended` gets what each has done.

    The longest duration of a stream holds for all sessions together, from the first audio on.

    Cancellation: the upstream is aborted, and the connection stays open.
    """
    start_ts, rest, asked = 0.0, b"", None
    clock, longest = asyncio.get_running_loop().time, sessions.session_seconds
    until: float | None = None
    while True:
        message = await _next(sessions, connection, None if until is None else max(until - clock(), 0.0))
        if isinstance(message, Close):
            return message
        if isinstance(message, str):
            await connection.flushed()
            continue
        until = clock() + longest if longest and until is None else until
        request = connection.request(start_ts)
        part = _Part(connection, rest + message if request.content_type == asked else message)
        left = None if until is None else max(until - clock(), LEAST)
        close = await sessions.run(part, request, longest=left, ended=ended)
        rate, asked = bytes_per_second(request.content_type), request.content_type
        rest = part.rest(rate // (asked.rate or 1)) if rate else b""
        start_ts += (part.size - len(rest)) / rate if rate else 0.0
        if part.flushed and close.code in ANSWERED:
            await connection.flushed()
        if part.is_last or not part.flushed or close.code != CloseCode.NORMAL:
            return close


async def _next(sessions: Sessions, connection: FlushableConnection, seconds: float | None) -> bytes | str | Close:
    """Return the first audio of a session, a flush of nothing, or how the connection ends without another session."""
    while True:
        receiving = asyncio.ensure_future(connection.receive())
        draining = asyncio.ensure_future(sessions.began_draining.wait())
        try:
            await asyncio.wait({receiving, draining}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            has_begun = draining.done()
        finally:
            await cancel_and_wait(receiving, draining)
        if receiving.cancelled():
            return DRAINED[1] if has_begun else TOO_LONG[1]
        message = receiving.result()
        if message is None or message == EOS:
            return Close(CloseCode.NORMAL, END_OF_INPUT)
        if message:
            return message


def bytes_per_second(content_type: ContentType) -> int | None:
    """Return how many bytes a second of samples has; None for a container."""
    if content_type.format is None:
        return None
    return FORMATS[content_type.format][1] * (content_type.rate or 0) * (content_type.channels or 0)
