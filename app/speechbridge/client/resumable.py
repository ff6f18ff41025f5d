"""The async client again, for our own service, through any number of cuts.

    async with connect_resumable("ws://127.0.0.1:8000", StreamRequest(ContentType.raw(16000))) as stream:
        ...  # the same face as `speechbridge.client.stream.Stream`

It asks the service for a line that can be come back to (see `speechbridge.server.resumable`), keeps the audio that the
service has not confirmed, and connects again by itself when the connection is cut: nothing is lost, nothing comes
twice. Only when it was away for longer than the service waits, or the service says that the stream is over, the
iteration raises.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from speechbridge.backoff import Backoff
from speechbridge.client.dial import OPEN_TIMEOUT, NoConnection, TimedOut, close_of, dial
from speechbridge.client.stream import Broken, Closed, StreamError, Unreadable, stream_address
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, Final, Partial
from speechbridge.protocol.resume import (
    RECONNECT_CODES,
    AudioReceived,
    FinalsReceived,
    Greeting,
    Resume,
    parse_message,
)
from speechbridge.tasks import cancel_and_wait
from syncbridge import Ring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from websockets.asyncio.client import ClientConnection

    from speechbridge.protocol.address import Address
    from speechbridge.protocol.messages import Message
    from speechbridge.protocol.request import StreamRequest

ROOM = 2**21  # bytes of audio kept: a minute of 16 kHz mono
PIECE = 3200  # bytes in one message: 100 ms of 16 kHz mono. A wire that is cut often lets small ones through
AHEAD = 64  # messages read ahead of their use
AWAY_SECONDS = 60.0  # how long to try to come back: as long as a service waits
BACKOFF = Backoff(0.1, 2.0)  # seconds between two tries


@asynccontextmanager
async def connect_resumable(
    url: str,
    request: StreamRequest,
    *,
    open_timeout: float = OPEN_TIMEOUT,
    away_seconds: float = AWAY_SECONDS,
    room: int = ROOM,
) -> AsyncIterator[ResumableStream]:
    """Open a stream that outlives its connections, for the time of an `async with`.

    `url` and `request` as for `speechbridge.client.stream.connect`; `room` is how many bytes of audio may wait to be
    confirmed. Raises NoConnection when there is no first connection, StreamError when the service cannot resume
    streams.

    Cancellation: the stream is given up, here and at the service.
    """
    stream = ResumableStream(url, request, open_timeout, away_seconds, room)
    keeping = asyncio.create_task(stream._keep(), name="lasting-stream")  # noqa: SLF001 # the two halves of one thing
    try:
        await stream._has_begun.wait()  # noqa: SLF001 # the same
        if stream._failure is not None:  # noqa: SLF001 # the same
            raise stream._failure  # noqa: SLF001 # the same
        yield stream
    finally:
        await cancel_and_wait(keeping)


class ResumableStream:
    """One stream of audio and its transcript. Made by `connect_resumable`.

    Iterate it for `Partial` and `Final`. `send` and `end` belong to one task, the iteration to another: what nobody
    takes fills a small queue, then nothing is read any more, confirmations included, and `send` waits for those.
    """

    def __init__(self, url: str, request: StreamRequest, open_timeout: float, away_seconds: float, room: int) -> None:
        self.cuts = 0  # how often it was cut off and came back
        self._base = url
        self._request = request
        self._patience = open_timeout
        self._away_seconds = away_seconds
        self._room = room
        self._ring = Ring()
        self._sent = 0  # position, on this connection
        self._finals = 0
        self._key: str | None = None
        self._ended = False
        self._close: Close | None = None
        self._failure: Exception | None = None
        self._has_begun, self._has_more, self._has_room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._messages: asyncio.Queue[Partial | Final | None] = asyncio.Queue(AHEAD)

    @property
    def close(self) -> Close | None:
        """How the service ended the stream; None before it did."""
        return self._close

    async def send(self, audio: bytes) -> None:
        """Send audio, waiting while too much of it is not confirmed. Raises Closed after `end()`, or what ended it.

        Cancellation: the audio was not taken.
        """
        if self._ended:
            raise Closed("the input has been ended: open another stream for more audio")
        while self._failure is None and self._close is None and self._ring.end - self._ring.start >= self._room:
            self._has_room.clear()
            await self._has_room.wait()
        if self._failure is not None:
            raise self._failure
        if self._close is not None:
            raise Broken(self._close)
        self._ring.append(audio)
        self._has_more.set()

    async def end(self) -> None:
        """Say that no more audio comes; the rest of the transcript still does. Idempotent, never waits."""
        self._ended = True
        self._has_more.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial | Final:
        """Return the next message. Stops when everything was heard after `end()`.

        Raises, after the last message: Broken with the service's close; NoConnection when there was no way back in
        time; Unreadable.

        Cancellation: no message is lost.
        """
        message = await self._messages.get()
        if message is not None:
            return message
        self._messages.put_nowait(None)  # for whoever asks again
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    # ---- the connections ---------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Connect, and connect again, until the stream is over."""
        try:
            await self._connect_until_over()
        except (NoConnection, StreamError) as error:
            self._failure = error
        finally:
            self._has_begun.set()
            self._has_room.set()
            await self._messages.put(None)

    async def _connect_until_over(self) -> None:
        clock = asyncio.get_running_loop().time
        good_until = clock()  # when a connection brought something last
        failures_in_a_row = 0  # connections since then
        last: Close | None = None
        while True:
            before = self._key, self._ring.start, self._finals
            close = await self._connect(give_up=self._key is None or clock() - good_until > self._away_seconds)
            if before != (self._key, self._ring.start, self._finals):
                good_until, failures_in_a_row, last = clock(), 0, None
            if close is not None:
                # What may be a cut, but comes again with nothing in between, is the service's last word.
                repeated = close == last and close.code != CloseCode.ABNORMAL
                if self._key is None or close.code not in RECONNECT_CODES or repeated:
                    return self._conclude(close)
                last = close
            self.cuts += 1
            await asyncio.sleep(BACKOFF.pause(failures_in_a_row))
            failures_in_a_row += 1

    async def _connect(self, *, give_up: bool) -> Close | None:
        """Live one connection; return how it ended, None if there was none and it is worth another try."""
        try:
            async with dial(self._address(), open_timeout=self._patience) as websocket:
                return await self._converse(websocket)
        except NoConnection:
            if give_up:
                raise
            return None

    def _conclude(self, close: Close) -> None:
        self._close = close
        if not close.is_success(eos_sent=self._ended):
            raise Broken(close)

    def _address(self) -> Address:
        resume = Resume(self._key, self._finals).query()
        return stream_address(self._base, f"{self._request.query()}&{resume}" if self._key is None else resume)

    async def _converse(self, websocket: ClientConnection) -> Close:
        """Send and receive on one connection until it ends; return how."""
        try:
            await self._greet(websocket)
        except ConnectionClosed as closed:
            return close_of(closed)
        sending = asyncio.create_task(self._send(websocket))
        try:
            while True:
                await self._take(await websocket.recv(), websocket)
        except ConnectionClosed as closed:
            return close_of(closed)
        finally:
            await cancel_and_wait(sending)

    async def _greet(self, websocket: ClientConnection) -> None:
        try:
            async with asyncio.timeout(self._patience):
                greeting = _read(await websocket.recv())
        except TimeoutError:
            raise TimedOut(f"the service has said nothing within {self._patience:g} s: try again later") from None
        if not isinstance(greeting, Greeting):
            raise StreamError("this service cannot resume streams: use speechbridge.client.stream.connect")
        self._key, self._sent = greeting.key, greeting.position
        self._release(self._sent)
        self._has_begun.set()

    async def _take(self, received: str | bytes, websocket: ClientConnection) -> None:
        message = _read(received)
        if isinstance(message, AudioReceived):
            self._release(message.position)
        elif isinstance(message, Final):
            self._finals += 1
            await self._messages.put(message)
            with suppress(ConnectionClosed):  # `recv` tells of it, after what had arrived by then
                await websocket.send(FinalsReceived(self._finals).encode())
        elif isinstance(message, Partial):
            await self._messages.put(message)

    async def _send(self, websocket: ClientConnection) -> None:
        """Send what the service has not got, then what comes; then EOS."""
        while True:
            self._has_more.clear()
            if self._sent < self._ring.end:
                audio = self._ring.read(self._sent)[:PIECE]
                await websocket.send(audio)
                self._sent += len(audio)
            elif self._ended:
                await websocket.send(EOS)
                return
            else:
                await self._has_more.wait()

    def _release(self, position: int) -> None:
        self._ring.release(position)
        self._has_room.set()


def _read(received: str | bytes) -> Message | Greeting | AudioReceived | None:
    try:
        return parse_message(received)
    except ValueError as error:
        raise Unreadable("a message is no JSON of Rev.ai's protocol: check the address") from error
