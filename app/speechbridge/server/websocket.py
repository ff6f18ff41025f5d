"""uvicorn's protocol for WebSocket, corrected, and its server with three hooks. Its protocol for HTTP is in `http.py`.

uvicorn parses all data at once that it has read: 40,000 tiny frames take half a second, in which nobody else is served.
And it goes on parsing after it has closed the connection. Here data is parsed in slices, one in each iteration of the
event loop; frames are counted before they are parsed; and after our close nothing is parsed any more.

All private or undocumented names of uvicorn and websockets that we use or override are used in these two files only.
`tests/server/test_websocket_canary.py` keeps a hash of the code behind each name, and fails when a release changes it.
Then compare the new release's code with this list and the code that uses the name.

    uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol
        overridden   __init__, data_received, handle_cont, handle_ping, send_receive_event_to_app, receive,
                     keepalive_timeout, handle_parser_exception, run_asgi, connection_lost
        attributes   loop, transport, conn, scope, queue, frames, curr_msg_data_type, read_paused, writable,
                     ping_timeout, pong_timer, close_timer, close_timeout, handshake_initiated, handshake_complete,
                     close_sent, config.ws_max_size
    uvicorn.Server
        overridden   startup, main_loop, shutdown, handle_exit, capture_signals
        called       on_tick
        attributes   config.http_protocol_class, lifespan.should_exit, lifespan.state, servers, server_state,
                     server_state.connections, should_exit, force_exit
    uvicorn._types   ASGIReceiveEvent
    websockets.protocol.Protocol (`conn`)
        called       fail, data_to_send
        attributes   handshake_exc, state, close_rcvd, close_sent, close_rcvd_then_sent
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn
from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from speechbridge.protocol.close import CloseCode
from speechbridge.server.frames import CLOSE, FrameWalk
from speechbridge.server.inbox import Inbox
from speechbridge.server.meter import LARGER, Meter

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from types import FrameType
    from typing import Any

    from uvicorn._types import ASGIReceiveEvent
    from websockets.frames import Frame

    from speechbridge.protocol.close import Close
    from speechbridge.server.turns import Turns, Unadmitted

__all__ = ["Config", "NotStarted", "UvicornServer", "WebSocketProtocol"]

SLICE_FRAMES = 16  # parsed in one iteration of the loop: about 0.3 ms

FRAGMENTS = 2048  # that a message may have

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
CLOSE_SECONDS = 5.0  # for a client to answer our close frame
DISCARDED_BYTES = 2**24  # limit after our close. Data in flight is less: the client's buffers and ours hold less
DISCARDED_FRAMES = 4096  # searched after our close for the client's close frame, at most

TICK_SECONDS = 0.1  # within which a signal is noticed


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One client's WebSocket. Once it has ended, `closed` is called with its close code, and `over` is called."""

    queue: Inbox[ASGIReceiveEvent]  # type: ignore[assignment] # it has the methods that are used here
    received_at = 0.0  # when data was received last, in the loop's time
    _unparsed = b""  # data that was read; the part from `_parsed` on is not parsed yet
    _parsed = 0
    _has_turn = False  # the next slice waits for its turn
    _is_reading = True
    _discarded = _discarded_frames = 0

    def __init__(
        self,
        *arguments: Any,
        closed: Callable[[int], object],
        over: Callable[[], object],
        turns: Turns,
        unadmitted: Unadmitted,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.queue = Inbox()
        self.close_timeout = CLOSE_SECONDS
        self.meter = Meter(self.config.ws_max_size // LARGER)
        self._walk = FrameWalk()
        self._closed, self._over, self._turns, self._unadmitted = closed, over, turns, unadmitted

    async def run_asgi(self) -> None:
        self.scope["meter"] = self.meter  # type: ignore[typeddict-unknown-key] # for the gate
        app = self.app

        async def answering(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            if self.initial_response is not None:  # refused by a response; the inherited code would log that as missing
                self.handshake_complete = True

        self.app = answering
        await super().run_asgi()
        self.app = app  # otherwise protocol and closure reference each other until the garbage collector finds them
        if not self.transport.is_closing():
            self._unadmitted.add(self)
        self._go_on()  # the unparsed data may hold the client's close frame

    def data_received(self, data: bytes) -> None:
        self.received_at = self.loop.time()
        if not self.handshake_initiated:
            super().data_received(data)
            if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
                # Not a valid request. The inherited code sends no response, and websockets < 16 may not have one.
                self.handshake_complete = self.close_sent = True
                self.transport.write(b"".join(self.conn.data_to_send()) or BAD_REQUEST)
                self.transport.close()
            return
        self._unparsed = self._unparsed[self._parsed :] + data if self._unparsed else data
        self._parsed = 0
        if not self._has_turn and (self.close_sent or not self.read_paused):
            self._parse_slice()

    def _parse_slice(self) -> None:
        """Parse a few frames. The rest waits for its turn, so that other connections are served."""
        self._has_turn = False
        if self.close_sent:
            self._discard()
            return
        data, begin, walk, meter, verdict = self._unparsed, self._parsed, self._walk, self.meter, None
        size, end, after, frames = len(data), begin, begin, 0
        while after < size and frames < SLICE_FRAMES:
            after = walk.step(data, after)
            if walk.began and walk.opcode < CLOSE:
                verdict = meter.measure(walk)
            if verdict is None and (walk.is_idle or meter.limit is not None):
                verdict = meter.count(walk, self.received_at)
            if verdict is not None:
                break
            end = after
            frames += 1
        self._unparsed, self._parsed = (b"", 0) if after == size else (data, after)
        if end > begin:
            super().data_received(data if end - begin == size else data[begin:end])
        if verdict is not None and not self.close_sent:
            self._cut_off(verdict)
        self._go_on()

    def _go_on(self) -> None:
        """Schedule the next slice, or resume reading; do neither while the application has messages to take."""
        takes = self.close_sent or not self.read_paused
        if takes and self._is_reading and not self._unparsed:  # as after most messages
            return
        if self.transport.is_closing():
            self._unparsed = b""
            return
        if takes and self._unparsed and not self._has_turn:
            self._has_turn = True
            self._turns.take(self._parse_slice)
        reads = takes and not self._unparsed
        if reads != self._is_reading:
            self._is_reading = reads
            (self.transport.resume_reading if reads else self.transport.pause_reading)()

    def _cut_off(self, verdict: Close) -> None:
        """Read no more from a client that exceeds a limit. Its application sees a disconnect, and may still send."""
        if self.meter.verdict is None:  # not its own limit, but a rule for all clients
            self._fail(verdict.code, verdict.reason)
            return
        self.read_paused = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": verdict.code, "reason": verdict.reason})

    def _discard(self) -> None:
        """Discard data after our close, up to the client's close frame. Drop a client that keeps sending.

        To close at once would be wrong: unread bytes reset the connection, and the client may never read our close
        frame.
        """
        data, end = self._unparsed, self._parsed
        self._discarded += len(data) - end
        self._unparsed, self._parsed = b"", 0
        while end < len(data) and self._discarded_frames < DISCARDED_FRAMES:
            end = self._walk.step(data, end)
            self._discarded_frames += 1
            if self._walk.began and self._walk.opcode == CLOSE:
                self.transport.close()
                return
        if self._discarded > DISCARDED_BYTES:
            self.transport.abort()
        self._go_on()

    def send_receive_event_to_app(self) -> None:
        """Queue a message. Keep reading if the application waits for it; the inherited code pauses at each message."""
        data = b"".join(self.frames)
        self.frames = []
        if self.close_sent:  # the application has closed, and takes no more messages
            return
        if not self.queue.is_awaited:
            self.read_paused = True
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID, "a text message must be UTF-8")
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})

    def receive(self) -> Coroutine[Any, Any, ASGIReceiveEvent]:
        if self.read_paused and self.queue.empty() and self.meter.verdict is None:
            self.read_paused = False
            self._go_on()
        return self.queue.get()

    def keepalive_timeout(self) -> None:
        """Drop a client that did not answer a ping, if no other data has arrived from it since.

        If a client sends audio faster than it is taken, its pong waits behind that audio, in its buffers or in ours.
        """
        patience = self.ping_timeout or 0.0
        if self.read_paused or self.loop.time() - self.received_at < patience:
            self.pong_timer = self.loop.call_later(patience, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        # Data that the client did not read is still in the transport's buffer, and the inherited close waits for that.
        self.transport.abort()

    def drop(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read: then the answers would fill the memory."""
        if self.writable.is_set() or self.conn.close_rcvd is not None:
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(CloseCode.TOO_BIG, "too many fragments")

    def _fail(self, code: int, reason: str) -> None:
        """Close the connection of a client that breaks a rule, in the same way as uvicorn does for its own rules."""
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Send a close frame for a protocol error, and wait for the client's; the inherited code closes at once."""
        close = self.conn.close_sent
        if close is None:  # the application has not accepted yet, so there is no WebSocket to close
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL})
            self.transport.abort()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report 1006 for a client that vanished; the inherited code reports that of an empty close frame."""
        self._unparsed = b""
        self._unadmitted.remove(self)
        if self.handshake_complete and self.conn.close_rcvd is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL})
        if self.conn.state is not State.CONNECTING:
            first = self.conn.close_rcvd if self.conn.close_rcvd_then_sent else self.conn.close_sent
            self._closed(first.code if first else CloseCode.ABNORMAL)
        super().connection_lost(exc)
        self._over()


class NotStarted(Exception):
    """uvicorn could not start: because of the application if `in_lifespan`, otherwise of the listening socket."""

    def __init__(self, *, in_lifespan: bool) -> None:
        super().__init__("uvicorn could not start")
        self.in_lifespan = in_lifespan


class UvicornServer(uvicorn.Server):
    """uvicorn's server with three hooks.

    `started` is called with the listening sockets. `drain` is awaited before any connection is closed; uvicorn's own
    shutdown first closes every WebSocket with 1012, and notifies the application later. `signalled` is called at a
    signal to end; without it, the server handles no signals.
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
        self._is_to_end = asyncio.Event()

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

    async def take(self, connection: socket.socket, head: bytes = b"", **options: Any) -> None:
        """Serve a connection that another process has accepted; its request began with `head`, if there is one.

        `options` are for the protocol. Raises OSError if the connection is broken.
        """
        protocol = self.config.http_protocol_class(
            config=self.config,  # type: ignore[call-arg] # as uvicorn calls it
            server_state=self.server_state,
            app_state=self.lifespan.state,
            **options,
        )
        connection.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
        if head:
            protocol.data_received(head)

    async def main_loop(self) -> None:
        """Serve until `end`. The inherited method checks every 0.1 s whether to end; `end` also wakes this one."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_to_end.wait(), TICK_SECONDS)

    def end(self) -> None:
        """Begin to end. Idempotent, not thread-safe."""
        self.should_exit = True
        self._is_to_end.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        for connection in list(self.connections):
            if isinstance(connection, WebSocketProtocol) and not connection.writable.is_set():
                connection.transport.abort()  # its client does not read, and uvicorn would wait for it
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 # a signal handler's signature
        """Begin to end. Unlike the inherited method, do not raise the signal again later: the exit status is 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT  # a second Ctrl-C
        self.should_exit = True
        if self._on_signal is not None:
            self._on_signal(sig)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals, including SIGHUP, unless that is ignored (nohup): a closed terminal ends the service, too."""
        if self._on_signal is None:
            yield
            return
        hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not on Windows
        if hangup is None or signal.getsignal(hangup) != signal.SIG_DFL:
            hangup = None
        with super().capture_signals():
            if hangup is not None:
                signal.signal(hangup, self.handle_exit)
            try:
                yield
            finally:
                if hangup is not None:
                    signal.signal(hangup, signal.SIG_DFL)
