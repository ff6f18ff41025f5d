"""WebSockets as the SDKs of Rev.ai need them served: one `Line` for each client. The only user of `websockets`.

Who talks on the lines is an `Attendant`: `conversation.RevAi`, or `script.Scripted`. What both need is here: the
path, frames in and out, the endings, and a shutdown that tells everybody and takes about a second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close as CloseFrame
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.request import PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.http11 import Request, Response

log = logging.getLogger(__name__)
transport_log = logging.getLogger(f"{__name__}.websockets")
transport_log.setLevel(logging.WARNING)  # at DEBUG `websockets` logs requests, and access tokens are in their URLs

MAX_MESSAGE = 8 << 20  # bytes: four minutes of 16 kHz mono
MAX_QUEUE = 8  # frames received ahead of their use; then the socket is not read
LINGER = 3.0  # seconds for a client to answer a close frame: Java's SDK never does
LAST_LINGER = 1.0  # the same at shutdown
SAY_TIMEOUT = 30.0  # seconds for a client to read what fills its buffers
HANDSHAKE_TIMEOUT = 10.0  # seconds

SHUTTING_DOWN = Close(CloseCode.SHUTTING_DOWN, "the recognizer is shutting down; connect again")
FAILED = Close(CloseCode.INTERNAL, "internal error")


class Gone(Exception):
    """The client has left, or was dropped."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer in place of the 101."""

    status: int
    text: str = ""


class Attendant(Protocol):
    """Who talks on the lines."""

    async def admit(self, line: Line) -> Refusal | None:
        """Let a client in, or not; cancelled if it leaves meanwhile."""

    async def converse(self, line: Line) -> None:
        """Lead a conversation to its end; cancelled at shutdown.

        May raise Gone. A line that was not closed is closed with 1000, after an error of ours with 1011.
        """


class Line:
    """One client's connection, from its request to the end of its TCP connection."""

    def __init__(self, connection: _Connection) -> None:
        self.query = ""  # of the request's URL, as it came: holds the access token
        self.talk: asyncio.Task[None] | None = None
        self._connection = connection

    @property
    def id(self) -> str:
        return self._connection.id.hex

    @property
    def farewell(self) -> Close | None:
        """The client's close frame, be it the first or the answer to ours; None as long as there is none."""
        frame = self._connection.protocol.close_rcvd
        return Close(frame.code, frame.reason) if frame else None

    def check(self) -> None:
        """Raise Gone if the client is known to have left."""
        if self._connection.transport.is_closing() or self.farewell:
            raise Gone

    async def receive(self, patience: float | None = None) -> bytes | str:
        """Return the client's next message, whole.

        Raises Gone, and TimeoutError when no frame at all came for `patience` seconds: a ping is a sign of life too.
        Cancellation: nothing is lost.
        """
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(patience):
                    return await self._connection.recv()
            except TimeoutError:
                if self._connection.heard < begun:
                    raise
            except ConnectionClosed:
                raise Gone from None

    async def say(self, message: str | bytes | AsyncIterator[str]) -> None:
        """Send a text message, a binary one, or a text message in fragments.

        Waits while the client does not read what was said before, and drops it in the end. Raises Gone.
        Cancellation: the connection is of no use afterwards.
        """
        try:
            async with asyncio.timeout(SAY_TIMEOUT):
                await self._connection.send(message)
        except TimeoutError:
            log.warning("dropped a client that did not read for %g s", SAY_TIMEOUT)
            self._connection.transport.abort()
            raise Gone from None
        except ConnectionClosed:
            raise Gone from None

    async def close(self, close: Close | None, linger: float = LINGER) -> None:
        """Send a close frame, None being one without a code; then read and discard until the client's.

        A client still sends when it is told to stop. Were TCP dropped under it, the reset could overtake the close
        frame and its reason be lost. After `linger` seconds TCP is dropped.
        Cancellation: the connection is of no use afterwards.
        """
        async with self._discarding(linger):
            if close:
                await self._connection.close(close.code, close.reason)
            else:
                await self._connection.close(None)  # type: ignore[arg-type] # sends a close frame without a code

    async def drop(self, *, reset: bool) -> None:
        """End TCP without a close frame: by RST at once, or by FIN and what a client does then."""
        if reset:
            tcp = self._connection.transport.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._connection.transport.abort()
            await self._connection.wait_closed()
        else:
            async with self._discarding(LINGER):
                self._connection.transport.write_eof()
                await self._connection.wait_closed()

    def deafen(self) -> None:
        """Read no more from the socket."""
        self._connection.transport.pause_reading()

    def answer_close(self, close: Close) -> None:
        """From now on answer a client's close frame with this one, and not with its own code."""
        self._connection.protocol.close_answer = close

    @asynccontextmanager
    async def _discarding(self, linger: float) -> AsyncIterator[None]:
        discarding = asyncio.create_task(self._discard())
        try:
            async with asyncio.timeout(linger):
                yield
        except TimeoutError:
            self._connection.transport.abort()
            await self._connection.wait_closed()
        finally:
            discarding.cancel()
            await asyncio.wait({discarding})

    async def _discard(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._connection.recv()


class _Protocol(ServerProtocol):
    close_answer: Close | None = None

    def send_frame(self, frame: Frame) -> None:
        answers = frame.opcode is Opcode.CLOSE and self.close_rcvd is not None
        if answers and self.close_answer:
            frame = Frame(Opcode.CLOSE, CloseFrame(self.close_answer.code, self.close_answer.reason).serialize())
        super().send_frame(frame)


class _Connection(ServerConnection):
    """Knows when it last heard a frame, and is one of `connections` as long as it lives."""

    protocol: _Protocol

    def __init__(self, server: WebSocketServer, connections: set[_Connection], **options: Any) -> None:
        super().__init__(_Protocol(max_size=MAX_MESSAGE, logger=transport_log), server, **options)
        self.line = Line(self)
        self.heard = self.loop.time()
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.discard(self)

    def process_event(self, event: Any) -> None:
        self.heard = self.loop.time()
        super().process_event(event)


@dataclass(frozen=True, slots=True)
class Server:
    url: str  # ws://host:port, what an SDK takes as its base


@asynccontextmanager
async def serving(
    attendant: Attendant,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
) -> AsyncIterator[Server]:
    """Serve `attendant` as long as the context lasts; then end each conversation with 4010.

    Port 0 is any free one. Raises OSError if the address cannot be had.
    """
    connections: set[_Connection] = set()

    async def knock(connection: _Connection, request: Request) -> Response | None:
        path, _, connection.line.query = request.path.partition("?")
        if path not in (PATH, "/" + PATH):  # SDKs join a base with a trailing slash so
            return connection.respond(HTTPStatus.NOT_FOUND, f"Connect to {PATH}\n")
        admission = asyncio.create_task(attendant.admit(connection.line))
        either: set[asyncio.Future[Any]] = {admission, connection.connection_lost_waiter}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            admission.cancel()
            await asyncio.wait({admission})
        refusal = None if admission.cancelled() else admission.result()
        return connection.respond(refusal.status, refusal.text) if refusal else None

    async def attend(connection: _Connection) -> None:
        line = connection.line
        line.talk = asyncio.create_task(attendant.converse(line))
        await asyncio.wait({line.talk})
        if line.talk.cancelled():
            await line.close(SHUTTING_DOWN, LAST_LINGER)
        elif (error := line.talk.exception()) and not isinstance(error, Gone):
            log.error("a conversation failed", exc_info=error)
            await line.close(FAILED)

    def connect(_: ServerProtocol, server: WebSocketServer, **options: Any) -> _Connection:
        return _Connection(server, connections, **options)

    server = await serve(
        attend,  # type: ignore[arg-type] # its connections are ours
        host,
        port,
        process_request=knock,  # type: ignore[arg-type] # the same
        create_connection=connect,  # type: ignore[arg-type] # a function makes connections as well as a class
        compression=None,  # PCM does not shrink
        server_header=None,
        open_timeout=handshake_timeout,
        close_timeout=LINGER,
        ping_interval=None,  # Python's SDK answers pings only while its responses are read; silence has its own end
        max_queue=MAX_QUEUE,
        logger=transport_log,
    )
    try:
        yield Server(_url(server.sockets[0]))
    finally:
        server.close(close_connections=False)
        for connection in tuple(connections):
            if connection.line.talk:
                connection.line.talk.cancel()
            else:
                connection.transport.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LINGER):
                await server.wait_closed()
        for connection in tuple(connections):  # those that were being closed already, and have more patience
            connection.transport.abort()
        await server.wait_closed()


def _url(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"
