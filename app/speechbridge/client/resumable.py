"""An async client for our own service whose stream survives lost connections and restarts of the service.

    async with connect_resumable("ws://127.0.0.1:8000", StreamRequest(ContentType.raw(16000))) as stream:
        ...  # the same interface as `speechbridge.client.stream.Stream`

It asks the service for a resumable stream (`speechbridge.protocol.resume`), and reconnects by itself: `retry.py`
decides when, and `replay.py` keeps the audio. If the service still knows the stream, nothing is lost and nothing is
received twice. If not, because it was restarted or killed, a new stream begins with the first audio that no final
covers, and its timestamps continue. The captions page does the same (`server/static/stream.mjs`).
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from speechbridge.client.dial import OPEN_TIMEOUT, NoConnection, TimedOut, close_of, dial
from speechbridge.client.replay import Replay
from speechbridge.client.retry import Next, Retry
from speechbridge.client.stream import Broken, Closed, StreamError, Unreadable, stream_address
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import EOS, Final, Partial, Queued
from speechbridge.protocol.queue import TICKET_SECONDS, Queue
from speechbridge.protocol.resume import (
    RECONNECT_CODES,
    UNKNOWN_STREAM,
    AudioReceived,
    FinalsReceived,
    Greeting,
    parse_message,
)
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self

    from websockets.asyncio.client import ClientConnection

    from speechbridge.protocol.messages import Message
    from speechbridge.protocol.request import StreamRequest

AHEAD = 64  # messages read ahead
AWAY_SECONDS = 60.0  # for which to try to reconnect: the service keeps a disconnected stream for as long
STALLED_SECONDS = 8.0  # without any message while audio is not acknowledged: the connection is dead
UNACKNOWLEDGED = 16_000  # bytes that may be unacknowledged in normal operation: the service acknowledges every 8,000
REPLAY_PACE = 8.0  # times real time, for audio that is sent again: the service may limit bytes per second
NOT_RESTARTED = (
    "the service was restarted, or this client was away for too long, and only S16LE samples can go on in a new "
    "stream: send such samples, or open a stream for the audio from its beginning"
)


@asynccontextmanager
async def connect_resumable(  # noqa: PLR0913 # all but the first two have defaults
    url: str,
    request: StreamRequest,
    *,
    open_timeout: float = OPEN_TIMEOUT,
    away_seconds: float = AWAY_SECONDS,
    room: int | None = None,
    waiting: Callable[[Queued], object] | None = None,
) -> AsyncIterator[ResumableStream]:
    """Open a stream that survives lost connections, for the time of an `async with`.

    `url`, `request` and `waiting` as for `speechbridge.client.stream.connect`. A stream that loses its connection in
    the queue keeps its place. `away_seconds` is how long to try to reconnect. `room` is the size of the replay buffer
    in bytes; by default it holds a minute.

    Only S16LE samples can go on in a new stream. Other audio survives lost connections, but a restart of the service
    ends it, unless the service shares a Redis with another process.

    Raises NoConnection when the first connection fails, Broken when the service refuses the stream, StreamError when it
    cannot resume streams.

    Cancellation: the stream is abandoned, here and at the service.
    """
    stream = ResumableStream(url, request, open_timeout, away_seconds, room, waiting)
    running = asyncio.create_task(stream._run(), name="resumable-stream")  # noqa: SLF001 # this function is its only user
    try:
        await stream._has_begun.wait()  # noqa: SLF001 # the same
        if stream._failure is not None:  # noqa: SLF001 # the same
            raise stream._failure  # noqa: SLF001 # the same
        yield stream
    finally:
        await cancel_and_wait(running)


class ResumableStream:
    """One stream of audio and its transcript. Made by `connect_resumable`.

    Iterate over it to get each `Partial` and `Final`. Call `send` and `end` from one task, and iterate in another:
    messages that are not taken fill a small queue; then nothing more is read, not even the acknowledgements that `send`
    waits for.

    `cuts` counts lost connections, `restarts` the new streams that had to begin.
    """

    def __init__(  # noqa: PLR0913, PLR0917 # as `connect_resumable` takes them
        self,
        url: str,
        request: StreamRequest,
        open_timeout: float,
        away_seconds: float,
        room: int | None,
        waiting: Callable[[Queued], object] | None,
    ) -> None:
        self.cuts = 0
        self.restarts = 0
        self._url = url
        self._open_timeout = open_timeout
        self._replay = Replay(request, room)
        self._clock = asyncio.get_running_loop().time
        self._retry = Retry(can_restart=self._replay.can_restart, away_seconds=away_seconds)
        self._waiting = waiting
        self._queue = None if waiting is None else Queue()
        self._keeps_place_until = 0.0  # the service keeps the place of a stream that lost its connection in the queue
        self._ended = False
        self._close: Close | None = None
        self._failure: Exception | None = None
        self._has_begun, self._has_more, self._has_room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._messages: asyncio.Queue[Partial | Final | None] = asyncio.Queue(AHEAD)

    @property
    def close(self) -> Close | None:
        """The close frame with which the service ended the stream; None while it is open."""
        return self._close

    @property
    def lost(self) -> float:
        """Seconds of audio that no final covers, and that could not be sent again after a restart of the service."""
        return self._replay.seconds(self._replay.lost)

    async def send(self, audio: bytes) -> None:
        """Send audio. Waits while the replay buffer is full; raises Closed after `end()`, or what ended the stream.

        Cancellation: the audio is not sent.
        """
        if self._ended:
            raise Closed("the input has ended: open another stream for more audio")
        while not self._is_over and (seconds := self._replay.make_room(self._clock())) > 0:
            self._has_room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, 3600.0)):
                    await self._has_room.wait()
        if self._failure is not None:
            raise self._failure
        if self._close is not None:
            raise Broken(self._close)
        self._replay.append(audio)
        self._has_more.set()

    async def end(self) -> None:
        """End the input; the rest of the transcript still arrives. Idempotent, never waits."""
        self._ended = True
        self._has_more.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial | Final:
        """Return the next message. Stops when the service has closed the stream after `end()` and the last message.

        Raises, after the last message: Broken with the service's close; NoConnection when the service could not be
        reached in time; Unreadable.

        Cancellation: no message is lost.
        """
        message = await self._messages.get()
        if message is not None:
            return message
        self._messages.put_nowait(None)  # a later call must find the end, too
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    # ---- the connections ---------------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._failure is not None or self._close is not None

    async def _run(self) -> None:
        """Connect, and reconnect, until the stream is over."""
        try:
            while not self._is_over:
                await self._connect()
        except (NoConnection, StreamError) as error:
            self._failure = error
        except asyncio.CancelledError:
            self._failure = Closed("the `async with` of this stream has ended: open another one")
            while not self._messages.empty():  # nobody will take them, and the queue needs room for the end
                self._messages.get_nowait()
            raise
        finally:
            self._has_begun.set()
            self._has_room.set()
            await self._messages.put(None)

    async def _connect(self) -> None:
        """Make one connection and use it until it ends; wait before the next one, if there is to be one."""
        is_resuming, failure, close = self._replay.key is not None, None, None
        try:
            async with dial(
                stream_address(self._url, self._replay.query(self._queue)), open_timeout=self._open_timeout
            ) as websocket:
                close = await self._exchange(websocket)
        except NoConnection as error:
            failure = error
        if close is not None and close.is_success(eos_sent=self._ended):
            self._close = close
            return
        if self._keeps_place(close):
            await asyncio.sleep(self._retry.pause())
            return
        decision = self._retry.after(close, self._clock(), is_resuming=is_resuming)
        if decision is Next.END:
            self._close = close
            is_forgotten = is_resuming and close is not None and close.code == UNKNOWN_STREAM
            cause_and_cure = NOT_RESTARTED if is_forgotten and not self._replay.can_restart else ""
            raise failure or Broken(close or Close(CloseCode.ABNORMAL), cause_and_cure)
        if decision is Next.RESTART:
            self._replay.restart()
            self.restarts += 1
        self.cuts += 1
        await asyncio.sleep(self._retry.pause())

    def _keeps_place(self, close: Close | None) -> bool:
        """Tell whether the connection was lost in the queue, so that the next one keeps the place."""
        is_lost = close is None or close.code in RECONNECT_CODES
        keeps = is_lost and self._clock() < self._keeps_place_until
        if not keeps and self._queue is not None:
            self._queue, self._keeps_place_until = Queue(), 0.0
        return keeps

    async def _exchange(self, websocket: ClientConnection) -> Close:
        """Send and receive on one connection until it ends; return its close."""
        try:
            await self._greet(websocket)
        except ConnectionClosed as closed:
            if self._keeps_place_until == math.inf:
                self._keeps_place_until = self._clock() + TICKET_SECONDS
            return close_of(closed)
        self._keeps_place_until = 0.0
        sending = asyncio.create_task(self._send(websocket))
        try:
            while (received := await self._receive(websocket)) is not None:
                await self._take(received, websocket)
        except ConnectionClosed as closed:
            return close_of(closed)
        finally:
            await cancel_and_wait(sending)
        return Close(CloseCode.ABNORMAL)

    async def _greet(self, websocket: ClientConnection) -> None:
        timeout: float | None = self._open_timeout
        try:
            while isinstance(greeting := await self._first(websocket, timeout), Queued):
                self._wait_in_queue(greeting)
                timeout = None  # a queued stream waits without limit; pings detect a dead service
        except TimeoutError:
            raise TimedOut(f"the service sent nothing within {self._open_timeout:g} s: try again later") from None
        if not isinstance(greeting, Greeting):
            raise StreamError("this service cannot resume streams: use speechbridge.connect")
        try:
            has_more = self._replay.greeted(greeting, self._clock())
        except ValueError as error:
            raise Unreadable(f"the service resumes the stream at {error}: check the address") from None
        self._retry.greeted(self._clock())
        if has_more:
            self._retry.acknowledged()
        self._has_begun.set()
        self._has_room.set()

    @staticmethod
    async def _first(websocket: ClientConnection, seconds: float | None) -> Message | Greeting | AudioReceived | None:
        async with asyncio.timeout(seconds):
            return _read(await websocket.recv())

    def _wait_in_queue(self, queued: Queued) -> None:
        self._queue = Queue(queued.ticket)
        self._keeps_place_until = math.inf
        if self._waiting is not None:
            self._waiting(queued)

    async def _receive(self, websocket: ClientConnection) -> str | bytes | None:
        """Receive a message; None if the connection is dead: then a close frame would never arrive either."""
        while True:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    return await websocket.recv()
            except TimeoutError:
                if self._replay.unacknowledged > UNACKNOWLEDGED:
                    websocket.transport.abort()
                    return None

    async def _take(self, received: str | bytes, websocket: ClientConnection) -> None:
        message = _read(received)
        if isinstance(message, AudioReceived):
            if self._replay.acknowledge(message.position, self._clock()):
                self._retry.acknowledged()
            self._has_room.set()
        elif isinstance(message, Final):
            self._retry.transcribed(is_final=True)
            self._replay.settle(message)
            self._has_room.set()
            await self._messages.put(message)
            with suppress(ConnectionClosed):  # `recv` raises it, too, after the messages that arrived before
                await websocket.send(FinalsReceived(self._replay.finals).encode())
        elif isinstance(message, Partial):
            self._retry.transcribed(is_final=False)
            await self._messages.put(message)

    async def _send(self, websocket: ClientConnection) -> None:
        """Send the audio that the service does not have, then new audio as it is added, then EOS."""
        while True:
            self._has_more.clear()
            is_again = self._replay.is_sent_again
            if piece := self._replay.next_piece():
                await websocket.send(piece)
                if is_again:
                    await asyncio.sleep(self._replay.seconds(len(piece)) / REPLAY_PACE)
            elif self._ended:
                await websocket.send(EOS)
                return
            else:
                await self._has_more.wait()


def _read(received: str | bytes) -> Message | Greeting | AudioReceived | None:
    try:
        return parse_message(received)
    except ValueError as error:
        raise Unreadable(
            "a message is not valid JSON of Rev.ai's protocol: check the address, or what the speech SDK yields"
        ) from error
