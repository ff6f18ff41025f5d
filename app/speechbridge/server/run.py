"""uvicorn, with the manners that streams need. The only import of uvicorn."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from speechbridge.protocol.close import CloseCode
from speechbridge.settings import split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from types import FrameType
    from typing import Any

    from fastapi import FastAPI
    from uvicorn._types import ASGIReceiveEvent
    from websockets.frames import Frame

    from speechbridge.server.session import Sessions
    from speechbridge.settings import Settings

PING_SECONDS = 20.0  # between two pings, and for the pong: a vanished client is noticed in 40 s
STALL_SECONDS = 30.0  # how long what we sent may stay unacknowledged, or a client's window shut
FRAGMENTS = 2048  # a message: 8 MiB in fragments of 4 KiB. Empty ones cost memory, and no limit in bytes sees them
PINGS = 100  # a second; a client that means well sends one in some seconds
INTERRUPT_SECONDS = 3.0  # the drain after Ctrl-C, when a person waits


class ServiceFailed(Exception):
    """The service could not start. What stood in its way is in the log."""


class WithoutQueries(logging.Filter):
    """Cut the query off every URL that uvicorn logs: access tokens are in there, and some clients encode the "?"."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(re.split(r"\?|%3F", arg)[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


class Inbox:
    """The messages that an application has still to take: as much of asyncio.Queue as one reader needs."""

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._arrival: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Nothing is there, and the next message is waited for."""
        return self._arrival is not None and not self._arrival.done()

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: ASGIReceiveEvent) -> None:
        self._messages.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        """Take the next message, waiting for it. Cancellation: none was taken."""
        while not self._messages:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._messages.pop(0)


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with some of its judgements corrected."""

    queue: Inbox  # type: ignore[assignment] # as much of a queue as is used here
    heard_at = 0.0  # the loop's time
    pings = (0, 0)  # in which second, and how many

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.queue = Inbox()

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            # A request that is none, or too long. The answer is ready; the inherited code neither sends it nor leaves.
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_ping(self) -> None:
        """Answer a ping. A flood of them takes time from others, and its pongs pile up if nobody reads them."""
        if self.close_sent:  # the rest of the flood, which came with what ended it
            return
        second = int(self.heard_at)
        self.pings = (second, self.pings[1] + 1) if self.pings[0] == second else (second, 1)
        if self.pings[1] > PINGS:
            self._end(CloseCode.POLICY, "too many pings")
        else:
            super().handle_ping()

    def send_receive_event_to_app(self) -> None:
        """Hand a message over, and read on if it was waited for; the inherited code stops and starts at each one."""
        data = b"".join(self.frames)
        self.frames = []
        if self.close_sent:  # the application is past its close
            return
        if not (self.queue.is_awaited or self.read_paused):
            self.read_paused = True
            self.transport.pause_reading()
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._end(CloseCode.INVALID, "a text message must be UTF-8")
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})

    def receive(self) -> Coroutine[Any, Any, ASGIReceiveEvent]:
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        return self.queue.get()

    def keepalive_timeout(self) -> None:
        """Drop a client that did not answer a ping and was not heard at all since.

        The answer of one that sends faster than its audio is taken waits behind that audio, in its buffers or ours.
        """
        patience = self.ping_timeout or 0.0
        if self.read_paused or self.loop.time() - self.heard_at < patience:
            self.pong_timer = self.loop.call_later(patience, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        # What it did not read is still in the transport's buffer, and the inherited close waits for that to drain.
        self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < FRAGMENTS:
            super().handle_cont(event)
        else:
            self._end(CloseCode.TOO_BIG, "too many fragments")

    def _end(self, code: CloseCode, reason: str) -> None:
        """Close the connection of a client that does not keep to the rules, as uvicorn does where it notices."""
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a client that vanished as 1006; the inherited code for it is that of an empty close frame."""
        if self.handshake_complete and self.conn.close_rcvd is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL})
        if self.conn.state is not State.CONNECTING:
            first = self.conn.close_rcvd if self.conn.close_rcvd_then_sent else self.conn.close_sent
            code = first.code if first else CloseCode.ABNORMAL
            self.config.app.state.metrics.closed(code)  # type: ignore[union-attr] # ours
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """A server that lets its sessions say their last words before it goes."""

    def __init__(self, app: FastAPI, settings: Settings, *, takes_signals: bool = True) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                ws=Protocol,
                ws_max_size=settings.max_message_bytes,
                ws_per_message_deflate=False,  # speech does not shrink, and the work would be a session's largest
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PING_SECONDS,
                forwarded_allow_ips=split(settings.trusted_proxies),
                log_config=None,
                access_log=False,  # sessions tell of themselves, and health checks would fill the log
                timeout_graceful_shutdown=2,  # the sessions were drained before; a relay hangs up within 1.5 s
            )
        )
        self._sessions: Sessions = app.state.sessions
        self._takes_signals = takes_signals
        self._interrupted = False
        self.has_started = asyncio.Event()
        logger = logging.getLogger("uvicorn.error")
        logger.setLevel(max(logging.INFO, logging.getLogger().level))  # at DEBUG it logs headers, keys included
        if not any(isinstance(present, WithoutQueries) for present in logger.filters):
            logger.addFilter(WithoutQueries())

    @property
    def url(self) -> str:
        """Where it listens, for WebSockets, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # uvicorn's way to say that it cannot start; it would take the caller's loop with it
            if self.lifespan.should_exit:
                raise ServiceFailed("the service cannot start: what stood in its way is told above") from None
            where = f"{self.config.host}:{self.config.port}"
            cure = "is the port taken? --port, or SPEECHBRIDGE_PORT, names another"
            raise ServiceFailed(f"the service cannot start on {where}: {cure}") from None
        for server in self.servers:
            for listening in server.sockets:
                _bound_stalls(listening)
        self.has_started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Now, because uvicorn's own shutdown closes every WebSocket with 1012 first and asks the application later.
        drain = asyncio.create_task(self._sessions.drain(INTERRUPT_SECONDS if self._interrupted else None))
        while not drain.done():
            if self.force_exit:  # a second Ctrl-C
                drain.cancel()
            await asyncio.wait({drain}, timeout=0.1)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol) and not connection.writable.is_set():
                connection.transport.abort()  # it does not read, and would be waited for
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 # a signal handler's form
        """Note the signal. The inherited one raises it again in the end; a service that was told to end succeeds."""
        self._interrupted = sig == signal.SIGINT
        self.force_exit = self.should_exit and self._interrupted
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals() if self._takes_signals else nullcontext():
            yield


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[Server]:
    """Serve within the caller's loop for as long as the context lasts.

    Raises ServiceFailed if it cannot start; the log says why. Leaving drains the sessions. Cancellation likewise.
    """
    server = Server(app, settings, takes_signals=False)
    serving = asyncio.create_task(server.serve(), name="server")
    started = asyncio.create_task(server.has_started.wait(), name="server-started")
    try:
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            raise ServiceFailed("the service did not start")
        yield server
    finally:
        started.cancel()
        server.should_exit = True
        await asyncio.gather(serving, started, return_exceptions=True)


def _bound_stalls(listening: socket.socket) -> None:
    """Have the kernel drop a client that stops reading, or vanishes under what we send; accepted sockets inherit it.

    Otherwise it would be there for ever: what was written waits for it, and the close waits for what was written.
    Linux only; elsewhere the pings find it, a little later.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000))
