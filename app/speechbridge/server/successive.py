"""Runs sessions one after another on one connection, for protocols whose clients may flush: OpenAI's and Deepgram's.

A flush asks for the final results of the audio so far, and more audio may follow at once. Speech SDKs have no such
request, but all can end their input. So a flush ends the input of one session, and the next audio begins another one.
Its `start_ts` is the duration of the audio so far, so that times continue.

    waiting --audio--> session --flush--> flushing --all its results are sent--> waiting
                          |                   |
                          +-------------------+--end, close, refusal, drain, time limit--> the connection's close frame

While a client is in the state `waiting`, no session runs, so no slot is used. While a session is flushed, only a
disconnect matters: `ReadAhead` watches for it, keeps the messages before it, and stops reading once these are many.

For limits, all sessions are one stream: its duration counts from the first audio on, including the waits. A flush may
come in the middle of a sample. The first bytes of that sample then go to both sessions, so that the next session begins
with a whole sample.
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

FLUSH = "FLUSH"  # a message that `receive` returns, like EOS: give the final results of the audio so far

KEPT_BYTES = 2**20  # of messages that are read ahead, before the last one of them
KEPT_MESSAGES = 512  # likewise: ten seconds in chunks of 20 ms

LARGEST = 80  # bytes of one sample of all channels, at most: ten channels of eight bytes
LEAST = 0.001  # seconds, because 0 would mean no limit
ANSWERED = (CloseCode.NORMAL, CloseCode.SHUTTING_DOWN, CloseCode.TOO_LONG)  # then all earlier audio was answered


class FlushableConnection(ClientConnection, Protocol):
    """A client whose protocol has a flush. `receive` returns audio, FLUSH, EOS or None; empty messages are ignored.

    `receive` is not called while a session is flushed.
    """

    def request(self, start_ts: float) -> StreamRequest:
        """Return the request for the session that begins now. Only samples can be flushed."""

    async def flushed(self) -> None:
        """Handle the end of a flush: all its results were sent. Also called if there was nothing to flush."""

    async def left(self) -> None:
        """Return once the client has left. Cancellation: no message is lost."""


class ReadAhead:
    """Reads from a connection, and can watch for its end before its messages are taken."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._kept: deque[bytes | str | None] = deque()
        self._bytes = 0

    async def receive(self) -> bytes | str | None:
        """Return the next message, None once the client has left. Cancellation: no message is lost."""
        if not self._kept:
            self._keep(await self._connection.receive())
        message = self._kept[0]
        if message is not None:  # None stays: nothing can be received after it
            self._kept.popleft()
            self._bytes -= len(message)
        return message

    async def left(self) -> None:
        """Return once the client has left. If it sends too much instead, wait until cancelled.

        Cancellation: no message is lost.
        """
        while not self._kept or self._kept[-1] is not None:
            if self._bytes >= KEPT_BYTES or len(self._kept) >= KEPT_MESSAGES:
                await asyncio.Event().wait()
            self._keep(await self._connection.receive())

    def _keep(self, message: bytes | str | None) -> None:
        self._kept.append(message)
        self._bytes += len(message or "")


class _Part:
    """The part of a connection that is one session: from the first audio to a flush, or to the end."""

    def __init__(self, connection: FlushableConnection, first: bytes) -> None:
        self._connection = connection
        self._first: bytes | None = first
        self._last = b""  # the last bytes of the audio: at most one sample of all channels
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
        """Return the bytes after the last whole sample: the beginning of a sample that the next audio continues."""
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
    """Run the sessions of one connection until it ends; return its close frame. `ended` gets each session's totals.

    The limit of a stream's duration applies to all sessions together, from the first audio on.

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
    """Return the first audio of a session, a FLUSH without audio, or the close frame if there is no other session."""
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
    """Return the bytes in one second of samples; None for a container."""
    if content_type.format is None:
        return None
    return FORMATS[content_type.format][1] * (content_type.rate or 0) * (content_type.channels or 0)
