"""An async client: audio goes out, partials and finals come in. It speaks to our service and to Rev.ai's alike.

    async with connect("ws://127.0.0.1:8000", StreamRequest(ContentType.raw(16000))) as stream:
        for chunk in chunks:
            await stream.send(chunk)
        await stream.end()
        async for message in stream:
            print(message.text)

That will do for a short recording. Live captions come while audio still goes out: there one task sends and another
iterates, all the time. Messages nobody takes fill a small queue; then nothing is read from the wire any more, pongs
included, and after `dial.PING_TIMEOUT` a healthy connection counts as dead.

What is raised, and when:

    NoConnection      no stream came about: Unreachable, Refused or TimedOut, see `speechbridge.client.dial`
    StreamError
    ├── Unreadable    a message that is not Rev.ai's protocol
    ├── Broken        the service ended the stream before all was heard; carries its `Close`
    └── Closed        you sent after your own `end()`

Each text names the cure. None holds a URL's query: the access token is in there.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from speechbridge.client.dial import OPEN_TIMEOUT, NoConnection, TimedOut, close_of, dial, service_address
from speechbridge.protocol.close import explain
from speechbridge.protocol.messages import EOS, Connected, Final, Partial, parse_message
from speechbridge.protocol.request import PATH, StreamRequest
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from websockets.asyncio.client import ClientConnection

    from speechbridge.protocol.address import Address
    from speechbridge.protocol.close import Close

__all__ = ["Broken", "Closed", "NoConnection", "Stream", "StreamError", "Unreadable", "connect", "live"]


class StreamError(Exception):
    """A stream has gone wrong. Its text says why and what to do."""


class Unreadable(StreamError):
    """A message could not be read.

    It is an error and not skipped: it may have been a final, and a transcript with a hole looks like a whole one.
    """


class Broken(StreamError):
    """The service ended the stream before everything was heard. `close` is its close frame, 1006 if none came."""

    def __init__(self, close: Close) -> None:
        super().__init__(explain(close))
        self.close = close


class Closed(StreamError):
    """The input has been ended: nothing can be sent any more."""


@asynccontextmanager
async def connect(url: str, request: StreamRequest, *, open_timeout: float = OPEN_TIMEOUT) -> AsyncIterator[Stream]:
    """Open a stream for the time of an `async with`.

    `url` is the base as SDKs take it, `ws://host:port`; wss, http and https work too. `open_timeout` (seconds) is
    for the connection, and once more for the service's `connected`, which need not be waited for before sending.
    Leaving early closes the connection without the rest of the transcript.

    Raises NoConnection when there is no stream.

    Cancellation: while opening, the connection is dropped; on leaving, the farewell is cut short.
    """
    async with dial(stream_address(url, request.query()), open_timeout=open_timeout) as websocket:
        yield Stream(websocket, open_timeout)


async def live(stream: Stream, sending: Coroutine[Any, Any, None], heard: Callable[[Partial | Final], None]) -> None:
    """Send and iterate at once, until both are done; `heard` is given each message.

    Raises what the iteration raises, else what `sending` does: a stream that broke breaks both, and the iteration
    tells of it after the last message.

    Cancellation: both stop.
    """
    task = asyncio.create_task(sending)
    try:
        async for message in stream:
            heard(message)
        await task
    finally:
        await cancel_and_wait(task)


def stream_address(base: str, query: str) -> Address:
    """Return where a stream of a service begins. Raises Unreachable for a base URL that cannot be one."""
    return service_address(base, f"{PATH}?{query}")


class Stream:
    """One stream of audio and its transcript. Made by `connect`.

    Iterate it for `Partial` and `Final` until the service has said everything. `send` and `end` belong to one task,
    the iteration to one other or the same.
    """

    def __init__(self, websocket: ClientConnection, open_timeout: float) -> None:
        self._websocket = websocket
        self._patience: float | None = open_timeout  # None once the service has spoken
        self._ended = False
        self._eos_sent = False
        self._close: Close | None = None

    @property
    def close(self) -> Close | None:
        """How the service ended the stream; 1006 if it went without a word, None before that was noticed."""
        return self._close

    async def send(self, audio: bytes) -> None:
        """Send audio of any length, as the request's content type says; wait for room on the wire.

        Raises Closed after `end()`, and Broken once the service has ended the stream.

        Cancellation: while it waits for room, the audio is on its way nonetheless. Do not send it again.
        """
        if self._ended:
            raise Closed("the input has been ended: open another stream for more audio")
        try:
            await self._websocket.send(audio)
            await asyncio.sleep(0)  # a wire that always has room would never let another task run
        except ConnectionClosed as closed:
            raise Broken(self._closed(closed)) from closed

    async def end(self) -> None:
        """Say that no more audio comes; the rest of the transcript still does. Idempotent.

        If the service has ended the stream already, the iteration tells, not this.

        Cancellation: as with `send`, the word is on its way.
        """
        if self._ended:
            return
        self._ended = True
        # Noted before the wait: an answer that comes within it is an answer to this.
        self._eos_sent = self._websocket.state is State.OPEN
        try:
            await self._websocket.send(EOS)
        except ConnectionClosed as closed:
            self._closed(closed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial | Final:
        """Return the next message; messages of unknown types pass by.

        Stops when the service has said everything that was heard after `end()`. Raises Broken, after the last
        message, when it ended in any other way; TimedOut when it says nothing at all at first; Unreadable.

        Cancellation: no message is lost.
        """
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    received = await self._websocket.recv()
            except TimeoutError:
                raise TimedOut(
                    f"the service has said nothing within {self._patience:g} s of the connection: try again later",
                ) from None
            except ConnectionClosed as closed:
                close = self._closed(closed)
                if close.is_success(eos_sent=self._eos_sent):
                    raise StopAsyncIteration from None
                raise Broken(close) from closed
            self._patience = None
            message = _read(received)
            if isinstance(message, Partial | Final):
                return message

    def _closed(self, closed: ConnectionClosed) -> Close:
        self._close = close_of(closed)
        return self._close


def _read(received: str | bytes) -> Connected | Partial | Final | None:
    if isinstance(received, bytes):
        return None  # the protocol knows no binary answers
    try:
        return parse_message(received)
    except ValueError as error:
        raise Unreadable(
            f"a message of {len(received)} characters is no JSON of Rev.ai's protocol: check the address",
        ) from error
