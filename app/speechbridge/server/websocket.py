"""uvicorn's WebSocket protocol, corrected, and its server with three hooks. The only import of uvicorn.

Everything of uvicorn and websockets that is private or undocumented, and that we use or override, is used in this file
only. `tests/server/test_websocket.py` keeps a hash of the code behind each name, and fails when a release changes it:
read what is said here about that name again, and then the release's code.

    uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol
        overridden   __init__, data_received, handle_ping, handle_cont, send_receive_event_to_app, receive,
                     keepalive_timeout, connection_lost
        called       handle_parser_exception
        attributes   loop, transport, conn, queue, frames, curr_msg_data_type, read_paused, writable, ping_timeout,
                     pong_timer, handshake_initiated, handshake_complete, close_sent
    uvicorn.Server
        overridden   startup, shutdown, handle_exit, capture_signals
        attributes   config, lifespan.should_exit, servers, server_state.connections, should_exit, force_exit
    uvicorn._types   ASGIReceiveEvent
    websockets.protocol.Protocol (`conn`)
        called       fail, data_to_send
        attributes   handshake_exc, state, close_rcvd, close_sent, close_rcvd_then_sent
"""

from __future__ import annotations

import signal
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import uvicorn
from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from speechbridge.protocol.close import CloseCode
from speechbridge.server.inbox import Inbox

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from types import FrameType
    from typing import Any

    from uvicorn._types import ASGIReceiveEvent
    from websockets.frames import Frame

__all__ = ["Config", "NotStarted", "UvicornServer", "WebSocketProtocol"]

FRAGMENTS = 2048  # a message: 8 MiB in fragments of 4 KiB. Empty ones cost memory, and no limit in bytes sees them
PINGS = 100  # a second. A well-behaved client sends one every few seconds


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One client's WebSocket. `closed` is told the close code that counts once it has ended."""

    queue: Inbox[ASGIReceiveEvent]  # type: ignore[assignment] # as much of a queue as is used here
    heard_at = 0.0  # the loop's time
    pings = (0, 0)  # in which second, and how many

    def __init__(self, *arguments: Any, closed: Callable[[int], object], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.queue = Inbox()
        self._closed = closed

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            # Not a request, or too long a one. The response is ready; the inherited code neither sends it nor closes.
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_ping(self) -> None:
        """Answer a ping. A flood of them takes time from others, and its pongs pile up if nobody reads them."""
        if self.close_sent:  # the rest of the flood: it was received together with the ping that ended it
            return
        second = int(self.heard_at)
        self.pings = (second, self.pings[1] + 1) if self.pings[0] == second else (second, 1)
        if self.pings[1] > PINGS:
            self._fail(CloseCode.POLICY, "too many pings")
        else:
            super().handle_ping()

    def send_receive_event_to_app(self) -> None:
        """Hand a message over. Go on reading if it was waited for; the inherited code stops and starts at each one."""
        data = b"".join(self.frames)
        self.frames = []
        if self.close_sent:  # the application has closed, and takes no more
            return
        if not (self.queue.is_awaited or self.read_paused):
            self.read_paused = True
            self.transport.pause_reading()
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID, "a text message must be UTF-8")
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})

    def receive(self) -> Coroutine[Any, Any, ASGIReceiveEvent]:
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        return self.queue.get()

    def keepalive_timeout(self) -> None:
        """Drop a client that did not answer a ping and from which nothing at all has come since.

        If a client sends faster than its audio is taken, its pong waits behind that audio, in its buffers or in ours.
        """
        patience = self.ping_timeout or 0.0
        if self.read_paused or self.loop.time() - self.heard_at < patience:
            self.pong_timer = self.loop.call_later(patience, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        # What the client did not read is still in the transport's buffer; the inherited close waits until it drains.
        self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(CloseCode.TOO_BIG, "too many fragments")

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Close the connection of a client that breaks a rule, as uvicorn does for the rules that it knows."""
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report 1006 for a client that vanished; the inherited code reports that of an empty close frame."""
        if self.handshake_complete and self.conn.close_rcvd is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL})
        if self.conn.state is not State.CONNECTING:
            first = self.conn.close_rcvd if self.conn.close_rcvd_then_sent else self.conn.close_sent
            self._closed(first.code if first else CloseCode.ABNORMAL)
        super().connection_lost(exc)


class NotStarted(Exception):
    """uvicorn could not start: `in_lifespan` tells whether the application or the listening socket was at fault."""

    def __init__(self, *, in_lifespan: bool) -> None:
        super().__init__("uvicorn could not start")
        self.in_lifespan = in_lifespan


class UvicornServer(uvicorn.Server):
    """uvicorn's server with hooks at three moments of its life.

    `started` is called with the listening sockets. `drain` is awaited before any connection is closed; uvicorn's own
    shutdown closes every WebSocket with 1012 first, and asks the application later. `signalled` is called at a signal
    to end; without it, the server takes no signals.
    """

    def __init__(
        self,
        config: Config,
        *,
        started: Callable[[list[socket.socket]], object],
        drain: Callable[[], Awaitable[object]],
        signalled: Callable[[int], object] | None,
    ) -> None:
        super().__init__(config)
        self._on_started = started
        self._drain = drain
        self._on_signal = signalled

    @property
    def connections(self) -> set[Any]:
        """The protocols of all connections, HTTP and WebSocket."""
        return self.server_state.connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start. Raises NotStarted; uvicorn would raise SystemExit, and end the caller's event loop with it."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise NotStarted(in_lifespan=self.lifespan.should_exit) from None
        self._on_started([socket for server in self.servers for socket in server.sockets])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        for connection in list(self.connections):
            if isinstance(connection, WebSocketProtocol) and not connection.writable.is_set():
                connection.transport.abort()  # its client does not read: uvicorn would wait for it
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 # a signal handler's form
        """Begin to end. The inherited method raises the signal again at the end; being told to end is no failure."""
        self.force_exit = self.should_exit and sig == signal.SIGINT  # a second Ctrl-C
        self.should_exit = True
        if self._on_signal is not None:
            self._on_signal(sig)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with nullcontext() if self._on_signal is None else super().capture_signals():
            yield
