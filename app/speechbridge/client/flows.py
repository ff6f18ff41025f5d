"""An async client of the flows of `/ws`: any number of them on one connection, one after the other.

    async with flows("ws://127.0.0.1:8000") as connection:
        print(await connection.text("Hello"))
        await connection.file(Path("speech.wav"))
        print(await connection.proxy("question"))
        async with connection.audio() as audio:
            for chunk in chunks:
                await audio.send(chunk)
            await audio.end()
            async for message in audio:
                print(message.text)

Exceptions:

    NoConnection      there is no connection: Unreachable, Refused or TimedOut, see `speechbridge.client.dial`
    StreamError       of `speechbridge.client.stream`
    ├── Failed        the service reports that a flow failed; the connection stays usable
    ├── Unreadable    an answer does not belong to the flow
    ├── Broken        the service ended the connection during a flow; `close` is its close frame
    ├── Closed        you sent audio after its end
    └── Busy          you began a flow before the previous one had ended

Each error text says what to do. None shows the query or the password of a URL.

Cancellation, for every flow: the service still waits for the rest of the flow, so the connection is no longer usable,
and every further flow raises Busy. Open another connection.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio
from websockets.exceptions import ConnectionClosed

from speechbridge.client.dial import OPEN_TIMEOUT, close_of, dial, service_address
from speechbridge.client.stream import Broken, Closed, StreamError, Unreadable
from speechbridge.protocol import flows as wire
from speechbridge.protocol.messages import EOS, Final, Partial, parse_message
from speechbridge.protocol.request import encode_query
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator

    from anyio import AsyncFile
    from websockets.asyncio.client import ClientConnection

    from speechbridge.protocol.messages import Message

END = wire.EOF.encode()
CHUNK = 2**16  # bytes of a file in one message; a ping waits behind two or three of them
LARGEST = 2**24  # bytes of an answer: an echo is as large as its text, and the service accepts 512 KiB by default


class Failed(StreamError):
    """A flow failed. The text is the service's. The connection is ready for the next flow."""


class Busy(StreamError):
    """Another flow has not ended, or was cancelled."""


@asynccontextmanager
async def flows(url: str, *, key: str = "", open_timeout: float = OPEN_TIMEOUT) -> AsyncIterator[Connection]:
    """Open a connection for the time of an `async with`.

    `url` is the base URL of the service, `ws://host:port`; wss, http and https work too. `key` is an API key, if the
    service requires one. `open_timeout` is in seconds. There is no time limit for an answer: use `asyncio.timeout`. If
    the service stops answering pings, the connection breaks.

    Raises NoConnection.

    Cancellation: while opening, the connection is dropped; while leaving, it is closed without waiting for an answer.
    """
    path = f"{wire.PATH}?{encode_query({'access_token': key})}" if key else wire.PATH
    async with dial(service_address(url, path), open_timeout=open_timeout, max_size=LARGEST) as websocket:
        yield Connection(_Channel(websocket))


class Connection:
    """Runs the flows. Made by `flows`."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    async def text(self, text: str) -> str:
        """Return the service's echo of a text, without `Echo: `.

        Raises Failed, Unreadable, Broken and Busy; ValueError, before anything is sent, for half of a surrogate pair.
        """
        return await self._ask(wire.TEXT, text, wire.ECHO)

    async def proxy(self, question: str) -> str:
        """Ask the external server of the service; return its answer, without `External response: `.

        Raises what `text` raises; Failed also when the external server does not answer within the service's time limit.
        """
        return await self._ask(wire.PROXY, question, wire.EXTERNAL)

    async def file(
        self, content: Path | bytes | AsyncIterable[bytes], *, sent: Callable[[int], None] = lambda _bytes: None
    ) -> None:
        """Store a file: the one at a path, or these bytes, or pieces of any size from an async iterable.

        Only one piece is in memory at a time; of a path, 64 KiB. `sent` is called with the number of bytes sent so far.
        Returns when the service has stored the whole file.

        Raises OSError, before anything is sent, if the path cannot be opened. Raises Failed as soon as the service
        refuses the file; Unreadable, Broken and Busy. An exception from the iterable is raised unchanged; then nothing
        is stored, and the connection is no longer usable.
        """
        if isinstance(content, Path):
            async with await anyio.open_file(content, "rb") as file, aclosing(_blocks(file)) as pieces:
                await self._upload(pieces, sent)
        elif isinstance(content, bytes):
            async with aclosing(_once(content)) as pieces:
                await self._upload(pieces, sent)
        else:
            await self._upload(content, sent)

    @asynccontextmanager
    async def audio(self) -> AsyncIterator[Audio]:
        """Transcribe 16 kHz mono S16LE, for the time of an `async with`.

        Leaving the block early ends the input and drops the rest of the transcript; it raises what the iteration
        raises. After an exception in the block the connection is no longer usable.

        Raises Broken and Busy.
        """
        self._channel.begin(wire.AUDIO)
        await self._channel.send(wire.AUDIO)
        audio = Audio(self._channel)
        yield audio
        if self._channel.flow:
            await audio.end()
            async for _ in audio:
                pass

    async def _ask(self, flow: str, text: str, prefix: str) -> str:
        text.encode()  # raises for half of a surrogate pair
        self._channel.begin(flow)
        await self._channel.send(flow)
        await self._channel.send(text)
        answer = await self._channel.receive()
        if not answer.startswith(prefix):
            raise Unreadable(_wrong_answer(answer, flow))
        self._channel.finish()
        return answer.removeprefix(prefix)

    async def _upload(self, pieces: AsyncIterable[bytes], sent: Callable[[int], None]) -> None:
        self._channel.begin(wire.FILE)
        await self._channel.send(wire.FILE)
        sending = asyncio.create_task(self._send_pieces(pieces, sent))
        receiving = asyncio.create_task(self._channel.receive())
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():  # usually not: only a refusal arrives before the end
                await sending
            answer = await receiving
        finally:
            await cancel_and_wait(sending, receiving)
        if answer != wire.STORED:
            raise Unreadable(_wrong_answer(answer, wire.FILE))
        self._channel.finish()

    async def _send_pieces(self, pieces: AsyncIterable[bytes], sent: Callable[[int], None]) -> None:
        size = 0
        with suppress(Broken):  # `receive` says why, and may return a refusal that arrived before the end
            async for piece in pieces:
                for chunk in cut(piece):
                    await self._channel.send(chunk)
                    size += len(chunk)
                    sent(size)
            await self._channel.send(END)


class Audio:
    """A transcription. Made by `Connection.audio`; used as `speechbridge.client.stream.Stream` is.

    Iterate over it to get each `Partial` and `Final`. Call `send` and `end` from one task, and iterate in one other or
    in the same task. Messages that are not taken fill a small queue; then nothing more is read from the connection, not
    even pongs.
    """

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._ended = False
        self._flow_ended = False
        self._failure: Failed | None = None

    async def send(self, audio: bytes) -> None:
        """Send audio of any length. Waits while the network is slow.

        Raises Closed after `end()` and once the service has ended the flow, and Broken.

        Cancellation: the audio is sent nevertheless. Do not send it again.
        """
        if self._ended or self._flow_ended:
            raise Closed("the input has ended: begin another flow for more audio")
        await self._channel.send(audio)

    async def end(self) -> None:
        """End the input; the rest of the transcript still arrives. Idempotent.

        If the service has ended the connection already, the iteration raises, not this method.

        Cancellation: the end is sent nevertheless, as with `send`.
        """
        if self._ended or self._flow_ended:
            return
        self._ended = True
        with suppress(Broken):
            await self._channel.send(EOS)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial | Final:
        """Return the next message; messages of unknown types are skipped.

        Stops when the service has ended the flow after `end()`. Raises Failed if the flow failed, or ended before
        `end()`; Broken; Unreadable.

        Cancellation: no message is lost.
        """
        while not self._flow_ended:
            try:
                received = await self._channel.receive()
            except Failed as failure:
                self._flow_ended, self._failure = True, failure
                break
            if received == wire.TRANSCRIBED:
                self._channel.finish()
                self._flow_ended = True
                if not self._ended:
                    self._failure = Failed("audio: the service ended the transcription before the audio did: try again")
                break
            message = _read(received)
            if isinstance(message, Partial | Final):
                return message
        if self._failure:
            raise self._failure
        raise StopAsyncIteration


class _Channel:
    """The connection: which flow uses it, and which exception each error or close raises."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self.flow = ""

    def begin(self, flow: str) -> None:
        if self.flow:
            raise Busy(f"the {self.flow} flow has not ended: wait for its end, or open another connection")
        self.flow = flow

    def finish(self) -> None:
        self.flow = ""

    async def send(self, message: str | bytes) -> None:
        try:
            await self._websocket.send(message)
            await asyncio.sleep(0)  # while the network takes all, `send` never yields to other tasks by itself
        except ConnectionClosed as closed:
            raise Broken(close_of(closed)) from closed

    async def receive(self) -> str:
        """Return the next message of the flow. An error message ends the flow and raises Failed."""
        while True:
            try:
                message = await self._websocket.recv()
            except ConnectionClosed as closed:
                raise Broken(close_of(closed)) from closed
            if isinstance(message, bytes):
                raise Unreadable(f"{self.flow}: the service sent a binary answer: check the address")
            if wire.answers_leftover(message):
                continue
            if message.startswith(wire.ERROR):
                flow = self.flow
                self.finish()
                raise Failed(f"{flow}: {message.removeprefix(wire.ERROR)}")
            return message


def cut(piece: bytes) -> Iterator[bytes]:
    """Cut a piece of a file into chunks; none of them is the marker for the end of the file."""
    for start in range(0, len(piece), CHUNK):
        chunk = piece[start : start + CHUNK]
        if chunk == END:
            yield chunk[:1]
            yield chunk[1:]
        else:
            yield chunk


async def _blocks(file: AsyncFile[bytes]) -> AsyncGenerator[bytes, None]:
    while block := await file.read(CHUNK):
        yield block


async def _once(piece: bytes) -> AsyncGenerator[bytes, None]:
    yield piece


def _read(received: str) -> Message | None:
    try:
        return parse_message(received)
    except ValueError as error:
        raise Unreadable(_wrong_answer(received, wire.AUDIO)) from error


def _wrong_answer(answer: str, flow: str) -> str:
    return f"{flow}: a message of {len(answer)} characters is not an answer of this flow: check the address"
