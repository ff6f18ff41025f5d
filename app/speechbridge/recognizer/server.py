"""A WebSocket server for Rev.ai's SDKs: one `Connection` for each client. The only server that uses `websockets`.

A `Handler` serves the connections: `conversation.RevAi`, or `script.Scripted`. This module has what both need: the
path, messages in and out, the end of connections, and a shutdown of about a second that sends each client a close
frame.
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
MAX_QUEUE = 8  # frames received ahead; then the socket is not read
LINGER = 3.0  # seconds for a client to answer a close frame: Java's SDK never does
LAST_LINGER = 1.0  # the same at shutdown
SEND_TIMEOUT = 30.0  # seconds for a client to read, once its buffers are full
HANDSHAKE_TIMEOUT = 10.0  # seconds

SHUTTING_DOWN = Close(CloseCode.SHUTTING_DOWN, "the recognizer is shutting down; connect again")
FAILED = Close(CloseCode.INTERNAL, "internal error")


class Gone(Exception):
    """The client has left, or was dropped."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP response in place of status 101."""

    status: int
    text: str = ""


class Handler(Protocol):
    """Serves each connection."""

    async def admit(self, connection: Connection) -> Refusal | None:
        """Return a refusal, or None to accept the client. Cancelled if the client leaves meanwhile."""

    async def handle(self, connection: Connection) -> None:
        """Serve a connection to its end. Cancelled at shutdown.

        May raise Gone. A connection that is still open afterwards is closed with 1000; after an exception, with 1011.
        """


class Connection:
    """One client's connection, from its request to the end of its TCP connection."""

    def __init__(self, websocket: _WebSocket) -> None:
        self.query = ""  # of the request's URL, not decoded; it contains the access token
        self.handling: asyncio.Task[None] | None = None
        self._websocket = websocket

    @property
    def id(self) -> str:
        return self._websocket.id.hex

    @property
    def client_close(self) -> Close | None:
        """The client's close frame, its own or the answer to ours; None if it has sent none yet."""
        frame = self._websocket.protocol.close_rcvd
        return Close(frame.code, frame.reason) if frame else None

    def check(self) -> None:
        """Raise Gone if the client is known to have left."""
        if self._websocket.transport.is_closing() or self.client_close:
            raise Gone

    async def receive(self, idle_seconds: float | None = None) -> bytes | str:
        """Return the client's next message.

        Raises Gone, and TimeoutError when no frame, not even a ping, arrived for so many seconds.
        Cancellation: nothing is lost.
        """
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(idle_seconds):
                    return await self._websocket.recv()
            except TimeoutError:
                if self._websocket.last_frame < begun:
                    raise
            except ConnectionClosed:
                raise Gone from None

    async def send(self, message: str | bytes | AsyncIterator[str]) -> None:
        """Send a text message, a binary one, or a text message in fragments.

        Waits while the client does not read, and drops the client after SEND_TIMEOUT. Raises Gone.
        Cancellation: the connection is not usable afterwards.
        """
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._websocket.send(message)
        except TimeoutError:
            log.warning("dropped a client that did not read for %g s", SEND_TIMEOUT)
            self._websocket.transport.abort()
            raise Gone from None
        except ConnectionClosed:
            raise Gone from None

    async def close(self, close: Close | None, linger: float = LINGER) -> None:
        """Send a close frame, for None one without a code; then read and discard until the client's close frame.

        A client may still be sending. If TCP were closed meanwhile, its reset could overtake our close frame, and the
        client would lose the reason. After `linger` seconds TCP is dropped.
        Cancellation: the connection is not usable afterwards.
        """
        async with self._discarding(linger):
            if close:
                await self._websocket.close(close.code, close.reason)
            else:
                await self._websocket.close(None)  # type: ignore[arg-type] # sends a close frame without a code

    async def drop(self, *, reset: bool) -> None:
        """End TCP without a close frame: with RST at once, or with FIN, and then wait for the client's end."""
        if reset:
            tcp = self._websocket.transport.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._websocket.transport.abort()
            await self._websocket.wait_closed()
        else:
            async with self._discarding(LINGER):
                self._websocket.transport.write_eof()
                await self._websocket.wait_closed()

    def stop_reading(self) -> None:
        """Stop reading from the socket."""
        self._websocket.transport.pause_reading()

    def answer_close(self, close: Close) -> None:
        """From now on, answer the client's close frame with this one instead of echoing its code."""
        self._websocket.protocol.close_answer = close

    @asynccontextmanager
    async def _discarding(self, linger: float) -> AsyncIterator[None]:
        discarding = asyncio.create_task(self._discard())
        try:
            async with asyncio.timeout(linger):
                yield
        except TimeoutError:
            self._websocket.transport.abort()
            await self._websocket.wait_closed()
        finally:
            discarding.cancel()
            await asyncio.wait({discarding})

    async def _discard(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._websocket.recv()


class _Protocol(ServerProtocol):
    close_answer: Close | None = None

    def send_frame(self, frame: Frame) -> None:
        answers = frame.opcode is Opcode.CLOSE and self.close_rcvd is not None
        if answers and self.close_answer:
            frame = Frame(Opcode.CLOSE, CloseFrame(self.close_answer.code, self.close_answer.reason).serialize())
        super().send_frame(frame)


class _WebSocket(ServerConnection):
    """Records when the last frame arrived, and is in the set `websockets` while its TCP connection lives."""

    protocol: _Protocol

    def __init__(self, server: WebSocketServer, websockets: set[_WebSocket], **options: Any) -> None:
        super().__init__(_Protocol(max_size=MAX_MESSAGE, logger=transport_log), server, **options)
        self.wrapper = Connection(self)
        self.last_frame = self.loop.time()
        self._websockets = websockets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._websockets.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._websockets.discard(self)

    def process_event(self, event: Any) -> None:
        self.last_frame = self.loop.time()
        super().process_event(event)


@dataclass(frozen=True, slots=True)
class Server:
    url: str  # ws://host:port, an SDK's base URL


@asynccontextmanager
async def serving(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT,
) -> AsyncIterator[Server]:
    """Serve for the time of the context; then close each connection with 4010.

    Port 0 picks a free one. Raises OSError if the address is not available.
    """
    websockets: set[_WebSocket] = set()

    async def process_request(websocket: _WebSocket, request: Request) -> Response | None:
        path, _, websocket.wrapper.query = request.path.partition("?")
        if path not in (PATH, "/" + PATH):  # SDKs send the second for a base URL with a trailing slash
            return websocket.respond(HTTPStatus.NOT_FOUND, f"Connect to {PATH}\n")
        admission = asyncio.create_task(handler.admit(websocket.wrapper))
        either: set[asyncio.Future[Any]] = {admission, websocket.connection_lost_waiter}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            admission.cancel()
            await asyncio.wait({admission})
        refusal = None if admission.cancelled() else admission.result()
        return websocket.respond(refusal.status, refusal.text) if refusal else None

    async def run(websocket: _WebSocket) -> None:
        connection = websocket.wrapper
        connection.handling = asyncio.create_task(handler.handle(connection))
        await asyncio.wait({connection.handling})
        if connection.handling.cancelled():
            await connection.close(SHUTTING_DOWN, LAST_LINGER)
        elif (error := connection.handling.exception()) and not isinstance(error, Gone):
            log.error("a connection failed", exc_info=error)
            await connection.close(FAILED)

    def connect(_: ServerProtocol, server: WebSocketServer, **options: Any) -> _WebSocket:
        return _WebSocket(server, websockets, **options)

    server = await serve(
        run,  # type: ignore[arg-type] # it takes our subclass of ServerConnection
        host,
        port,
        process_request=process_request,  # type: ignore[arg-type] # the same
        create_connection=connect,  # type: ignore[arg-type] # a function makes connections as well as a class
        compression=None,  # PCM does not shrink
        server_header=None,
        open_timeout=handshake_timeout,
        close_timeout=LINGER,
        ping_interval=None,  # Python's SDK answers pings only while its responses are read; `idle_seconds` ends silence
        max_queue=MAX_QUEUE,
        logger=transport_log,
    )
    try:
        yield Server(_url(next(iter(server.sockets))))
    finally:
        server.close(close_connections=False)
        for websocket in tuple(websockets):
            if websocket.wrapper.handling:
                websocket.wrapper.handling.cancel()
            else:
                websocket.transport.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LINGER):
                await server.wait_closed()
        for websocket in tuple(websockets):  # those that were being closed before, with a longer linger
            websocket.transport.abort()
        await server.wait_closed()


def _url(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"
