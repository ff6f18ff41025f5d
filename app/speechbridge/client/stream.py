"""An async client: sends audio, receives partials and finals. It works with our service and with Rev.ai's.

    async with connect("ws://127.0.0.1:8000", StreamRequest(ContentType.raw(16000))) as stream:
        for chunk in chunks:
            await stream.send(chunk)
        await stream.end()
        async for message in stream:
            print(message.text)

This is enough for a short recording. For live captions one task sends while another iterates. Keep iterating: messages
that are not taken fill a small queue; then nothing more is read from the connection, not even pongs, and after
`dial.PING_TIMEOUT` a healthy connection counts as dead.

Exceptions:

    NoConnection      there is no stream: Unreachable, Refused or TimedOut, see `speechbridge.client.dial`
    StreamError
    ├── Unreadable    a message is not of Rev.ai's protocol
    ├── Broken        the service ended the stream early; `close` is its close frame
    └── Closed        you sent audio after your own `end()`

Each error text says what to do. None shows the query of a URL, which holds the access token.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from speechbridge.client.dial import OPEN_TIMEOUT, NoConnection, TimedOut, close_of, dial, service_address
from speechbridge.protocol.close import explain
from speechbridge.protocol.messages import EOS, Final, Partial, Queued, parse_message
from speechbridge.protocol.queue import Queue
from speechbridge.protocol.request import PATH, StreamRequest
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from websockets.asyncio.client import ClientConnection

    from speechbridge.protocol.address import Address
    from speechbridge.protocol.close import Close
    from speechbridge.protocol.messages import Message

__all__ = ["Broken", "Closed", "NoConnection", "Stream", "StreamError", "Unreadable", "connect", "live"]


class StreamError(Exception):
    """A stream failed. The text says why, and what to do."""


class Unreadable(StreamError):
    """A message could not be parsed.

    It is not skipped: it may have been a final, and nobody would notice that this final is missing.
    """


class Broken(StreamError):
    """The service ended the stream early. `close` is its close frame; 1006 if there was none."""

    def __init__(self, close: Close, cause_and_cure: str = "") -> None:
        super().__init__(cause_and_cure or explain(close))
        self.close = close


class Closed(StreamError):
    """The input has ended: no more audio can be sent."""


@asynccontextmanager
async def connect(
    url: str,
    request: StreamRequest,
    *,
    open_timeout: float = OPEN_TIMEOUT,
    waiting: Callable[[Queued], object] | None = None,
) -> AsyncIterator[Stream]:
    """Open a stream for the time of an `async with`.

    `url` is the base URL as SDKs take it, `ws://host:port`; wss, http and https work too. `open_timeout` (seconds)
    limits the time for the connection, and then the time until the service's `connected`; you may send before that.
    Leaving the block early closes the connection without the rest of the transcript.

    Without `waiting`, our service refuses a stream with 4029 when all its slots are taken. With it, the stream waits in
    the service's queue: while you iterate, `waiting` is called with each `Queued`, which has the place in the queue and
    an estimate of the seconds left.

    Raises NoConnection.

    Cancellation: while opening, the connection is dropped; while leaving, it is closed without waiting for an answer.
    """
    query = request.query() if waiting is None else f"{request.query()}&{Queue().query()}"
    async with dial(stream_address(url, query), open_timeout=open_timeout) as websocket:
        yield Stream(websocket, open_timeout, waiting)


async def live(stream: Stream, sending: Coroutine[Any, Any, None], received: Callable[[Partial | Final], None]) -> None:
    """Send and iterate at the same time, until both are done; `received` is called with each message.

    Raises what the iteration raises, or else what `sending` raises. A broken stream ends both; then the error is the
    iteration's, raised after the last message.

    Cancellation: both are cancelled.
    """
    task = asyncio.create_task(sending)
    try:
        async for message in stream:
            received(message)
        await task
    finally:
        await cancel_and_wait(task)


def stream_address(base: str, query: str) -> Address:
    """Return the address of a stream. Raises Unreachable for an unusable base URL."""
    return service_address(base, f"{PATH}?{query}")


class Stream:
    """One stream of audio and its transcript. Made by `connect`.

    Iterate over it to get each `Partial` and `Final`. Call `send` and `end` from one task, and iterate in one other or
    in the same task.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        open_timeout: float,
        waiting: Callable[[Queued], object] | None = None,
    ) -> None:
        self._websocket = websocket
        self._waiting = waiting
        self._first_timeout: float | None = open_timeout  # seconds for the first message; None once it has arrived
        self._ended = False
        self._eos_sent = False
        self._close: Close | None = None

    @property
    def close(self) -> Close | None:
        """The close frame with which the service ended the stream; 1006 if it sent none, None while it is open."""
        return self._close

    async def send(self, audio: bytes) -> None:
        """Send audio of any length in the format of the request's content type. Waits while the network is slow.

        Raises Closed after `end()`, and Broken once the service has ended the stream.

        Cancellation: the audio is sent nevertheless. Do not send it again.
        """
        if self._ended:
            raise Closed("the input has been ended: open another stream for more audio")
        try:
            await self._websocket.send(audio)
            await asyncio.sleep(0)  # while the network takes all, `send` never yields to other tasks by itself
        except ConnectionClosed as closed:
            raise Broken(self._closed(closed)) from closed

    async def end(self) -> None:
        """End the input (half-close); the rest of the transcript still arrives. Idempotent.

        If the service has ended the stream already, the iteration raises, not this method.

        Cancellation: the end is sent nevertheless, as with `send`.
        """
        if self._ended:
            return
        self._ended = True
        # Set before the wait: the service may answer EOS, and close, before `send` returns.
        self._eos_sent = self._websocket.state is State.OPEN
        try:
            await self._websocket.send(EOS)
        except ConnectionClosed as closed:
            self._closed(closed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial | Final:
        """Return the next message; messages of unknown types are skipped.

        Stops when the service has closed the stream after `end()` and the last message. Raises Broken, after the last
        message, if the stream ended in any other way; TimedOut if the first message is late; Unreadable.

        Cancellation: no message is lost.
        """
        while True:
            try:
                async with asyncio.timeout(self._first_timeout):
                    received = await self._websocket.recv()
            except TimeoutError:
                raise TimedOut(
                    f"the service sent nothing within {self._first_timeout:g} s of the connection: try again later",
                ) from None
            except ConnectionClosed as closed:
                close = self._closed(closed)
                if close.is_success(eos_sent=self._eos_sent):
                    raise StopAsyncIteration from None
                raise Broken(close) from closed
            self._first_timeout = None
            message = _read(received)
            if isinstance(message, Partial | Final):
                return message
            if isinstance(message, Queued) and self._waiting is not None:
                self._waiting(message)

    def _closed(self, closed: ConnectionClosed) -> Close:
        self._close = close_of(closed)
        return self._close


def _read(received: str | bytes) -> Message | None:
    if isinstance(received, bytes):
        return None  # the server sends no binary messages in this protocol: skip it
    try:
        return parse_message(received)
    except ValueError as error:
        raise Unreadable(
            f"a message of {len(received)} characters is not valid JSON of Rev.ai's protocol: check the address, or"
            " what the speech SDK behind it yields"
        ) from error
