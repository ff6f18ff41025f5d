"""An async client of the flows: any number of them on one connection, one after the other.

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

What is raised, and when:

    NoConnection      no connection came about: Unreachable, Refused or TimedOut, see `speechbridge.client.dial`
    StreamError       of `speechbridge.client.stream`
    ├── Failed        the service says that a flow cannot go on; the connection stays usable
    ├── Unreadable    an answer that is not the flow's
    ├── Broken        the service ended the connection in the middle of a flow; carries its `Close`
    ├── Closed        you sent audio after its end
    └── Busy          a flow was begun before the one before it had ended

Each text names the cure. None holds a URL's query or password.

Cancellation, of every flow: it is left in the middle, and the service waits for its rest. So the connection is of no
more use, and says so by Busy; open another one.
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

    from speechbridge.protocol.messages import Connected

END = wire.EOF.encode()
CHUNK = 2**16  # bytes of a file in one message. A ping waits behind two or three of them at most
LARGEST = 2**24  # bytes of an answer. An echo is as large as its text, and the service takes 8 MiB as a rule


class Failed(StreamError):
    """A flow cannot go on. Its text is the service's. The connection is ready for the next flow."""


class Busy(StreamError):
    """Another flow has not ended, or was left in the middle."""


@asynccontextmanager
async def flows(url: str, *, key: str = "", open_timeout: float = OPEN_TIMEOUT) -> AsyncIterator[Connection]:
    """Open a connection for the time of an `async with`.

    `url` is the service's base, `ws://host:port`; wss, http and https work too. `key` is an API key, where one is
    needed. `open_timeout` is in seconds. There is no time limit for an answer: use `asyncio.timeout`. A service that
    has vanished is noticed by its pings.

    Raises NoConnection.

    Cancellation: while opening, the connection is dropped; on leaving, the farewell is cut short.
    """
    path = f"{wire.PATH}?{encode_query({'access_token': key})}" if key else wire.PATH
    async with dial(service_address(url, path), open_timeout=open_timeout, max_size=LARGEST) as websocket:
        yield Connection(_Line(websocket))


class Connection:
    """Runs the flows. Made by `flows`."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    async def text(self, text: str) -> str:
        """Return the service's echo of a text, without its `Echo: `.

        Raises Failed, Unreadable, Broken and Busy; ValueError, before anything is sent, for half a surrogate pair.
        """
        return await self._ask(wire.TEXT, text, wire.ECHO)

    async def proxy(self, question: str) -> str:
        """Ask the external server that the service knows; return its answer, without `External response: `.

        Raises what `text` raises. The service has a time limit for the answer: it is Failed, too.
        """
        return await self._ask(wire.PROXY, question, wire.EXTERNAL)

    async def file(
        self, content: Path | bytes | AsyncIterable[bytes], *, sent: Callable[[int], None] = lambda _bytes: None
    ) -> None:
        """Have a file stored: the one at a path, or these bytes, or pieces of any size as they come.

        One piece is in memory; of a path 64 KiB. `sent` is told the number of bytes sent so far. Returns when the
        service has stored the whole.

        Raises OSError, before anything is sent, for a path that cannot be opened. Raises Failed as soon as the service
        refuses the file, whatever is left of it; Unreadable, Broken and Busy. What goes wrong with the source in the
        middle is raised as it is; nothing is stored then, and the connection is of no more use.
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
        """Have 16 kHz mono S16LE transcribed, for the time of an `async with`.

        Leaving it early ends the input; what is heard until then is thrown away. An exception leaves the flow in the
        middle, and the connection is of no more use.

        Raises Broken and Busy; on leaving early also what the iteration raises.
        """
        self._line.begin(wire.AUDIO)
        await self._line.send(wire.AUDIO)
        audio = Audio(self._line)
        yield audio
        if self._line.flow:
            await audio.end()
            async for _ in audio:
                pass

    async def _ask(self, flow: str, text: str, prefix: str) -> str:
        text.encode()  # fails now or never
        self._line.begin(flow)
        await self._line.send(flow)
        await self._line.send(text)
        answer = await self._line.receive()
        if not answer.startswith(prefix):
            raise Unreadable(_no_answer(answer, flow))
        self._line.finish()
        return answer.removeprefix(prefix)

    async def _upload(self, pieces: AsyncIterable[bytes], sent: Callable[[int], None]) -> None:
        self._line.begin(wire.FILE)
        await self._line.send(wire.FILE)
        pouring = asyncio.create_task(self._pour(pieces, sent))
        answering = asyncio.create_task(self._line.receive())
        try:
            await asyncio.wait({pouring, answering}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():  # as a rule: only a refusal comes before the end
                await pouring
            answer = await answering
        finally:
            await cancel_and_wait(pouring, answering)
        if answer != wire.STORED:
            raise Unreadable(_no_answer(answer, wire.FILE))
        self._line.finish()

    async def _pour(self, pieces: AsyncIterable[bytes], sent: Callable[[int], None]) -> None:
        size = 0
        with suppress(Broken):  # the answer tells, and may be a refusal that came before
            async for piece in pieces:
                for chunk in cut(piece):
                    await self._line.send(chunk)
                    size += len(chunk)
                    sent(size)
            await self._line.send(END)


class Audio:
    """A transcription. Made by `Connection.audio`; used as `speechbridge.client.stream.Stream` is.

    Iterate it for `Partial` and `Final` until the service has said everything. `send` and `end` belong to one task,
    the iteration to one other or the same. What nobody takes fills a small queue; then nothing is read from the wire
    any more, pongs included.
    """

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._ended = False
        self._over = False
        self._failure: Failed | None = None

    async def send(self, audio: bytes) -> None:
        """Send audio of any length; wait for room on the wire.

        Raises Closed after `end()` and once the service has ended the flow, and Broken.

        Cancellation: while it waits for room, the audio is on its way nonetheless. Do not send it again.
        """
        if self._ended or self._over:
            raise Closed("the input has ended: begin another flow for more audio")
        await self._line.send(audio)

    async def end(self) -> None:
        """Say that no more audio comes; the rest of the transcript still does. Idempotent.

        If the service has ended the connection already, the iteration tells, not this.

        Cancellation: as with `send`, the word is on its way.
        """
        if self._ended or self._over:
            return
        self._ended = True
        with suppress(Broken):
            await self._line.send(EOS)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Partial | Final:
        """Return the next message; messages of unknown types pass by.

        Stops when the service has said everything. Raises Failed when it could not, or ended before `end()`; Broken;
        Unreadable.

        Cancellation: no message is lost.
        """
        while not self._over:
            try:
                received = await self._line.receive()
            except Failed as failure:
                self._over, self._failure = True, failure
                break
            if received == wire.TRANSCRIBED:
                self._line.finish()
                self._over = True
                if not self._ended:
                    self._failure = Failed("audio: the service ended the transcription before the audio did: try again")
                break
            message = _read(received)
            if isinstance(message, Partial | Final):
                return message
        if self._failure:
            raise self._failure
        raise StopAsyncIteration


class _Line:
    """The connection: which flow has it, and what its ends and errors mean."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self.flow = ""

    def begin(self, flow: str) -> None:
        if self.flow:
            raise Busy(f"the {self.flow} flow before this one has not ended: let it, or open another connection")
        self.flow = flow

    def finish(self) -> None:
        self.flow = ""

    async def send(self, message: str | bytes) -> None:
        try:
            await self._websocket.send(message)
            await asyncio.sleep(0)  # a wire that always has room would never let another task run
        except ConnectionClosed as closed:
            raise Broken(close_of(closed)) from closed

    async def receive(self) -> str:
        """Return the flow's next message. An error ends the flow and raises Failed."""
        while True:
            try:
                message = await self._websocket.recv()
            except ConnectionClosed as closed:
                raise Broken(close_of(closed)) from closed
            if isinstance(message, bytes):
                raise Unreadable(f"{self.flow}: the service answered in binary: check the address")
            if wire.answers_leftover(message):
                continue
            if message.startswith(wire.ERROR):
                flow = self.flow
                self.finish()
                raise Failed(f"{flow}: {message.removeprefix(wire.ERROR)}")
            return message


def cut(piece: bytes) -> Iterator[bytes]:
    """Cut a piece of a file into chunks, none of which means that the file ends."""
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


def _read(received: str) -> Connected | Partial | Final | None:
    try:
        return parse_message(received)
    except ValueError as error:
        raise Unreadable(_no_answer(received, wire.AUDIO)) from error


def _no_answer(answer: str, flow: str) -> str:
    return f"{flow}: a message of {len(answer)} characters is no answer of this flow: check the address"
