"""uvicorn's protocol for HTTP, with limits on bytes, time and the number of connections before a client is admitted.

These are the private names that it uses; the rules for them are in `websocket.py`:

    uvicorn.protocols.http.httptools_impl.STATUS_LINE, HttpToolsProtocol
        overridden   __init__, connection_made, connection_lost, data_received, handle_websocket_upgrade,
                     on_message_begin, on_headers_complete, on_body, on_response_complete, _start_asgi_task
        attributes   loop, transport, flow, parser, pipeline, url, headers, scope; cycle.response_complete,
                     cycle.keep_alive; `disconnected` and `scope` of what `_start_asgi_task` is given
    uvicorn.protocols.http.flow_control.FlowControl
        overridden   resume_reading
        attributes   read_paused
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from speechbridge.server.body import announced

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from speechbridge.server.turns import Turns, Unadmitted

SLICE_BYTES = 2**10  # parsed in one turn: 57 of the shortest requests
BODY_SLICE = 2**16  # bytes of a body with a known length that are handled in one turn: they need no parsing

HEAD_BYTES = 2**16  # limit for a head: request line and headers together. A browser's has 2 KiB
HEAD_SECONDS = 20.0  # limit for a complete head, counted from the connection's beginning or the last response
UNPARSED_BYTES = 2**20  # limit for requests that wait to be parsed. Reading stops long before that


class _Flow(FlowControl):
    """Flow control that calls `resumed` when more may be parsed."""

    def __init__(self, transport: asyncio.Transport, resumed: Callable[[], object]) -> None:
        super().__init__(transport)
        self._resumed = resumed

    def resume_reading(self) -> None:
        super().resume_reading()
        self._resumed()


class HttpProtocol(HttpToolsProtocol):
    """One client's HTTP requests, the handshakes of WebSockets among them."""

    _unparsed = b""
    _has_turn = False  # the next slice waits for its turn
    _has_upgraded = False  # a WebSocket's handshake has come: nothing more is parsed here
    _body_left = 0  # bytes still to come of a body with a known length
    _kept = 0  # bytes that the parser may hold: an incomplete head, or trailers
    _head_timer: asyncio.TimerHandle | None = None
    _answering: Any = None  # the request cycle that `_start_asgi_task` was given last

    def __init__(
        self,
        *arguments: Any,
        turns: Turns,
        unadmitted: Unadmitted,
        over: Callable[[], object],
        hand_on: Callable[[HttpProtocol], bool] | None = None,
        **options: Any,
    ) -> None:
        """Call `hand_on` at each WebSocket's handshake; if it returns True, another process has taken the connection.

        `over` is called when the connection has ended, unless it has become a WebSocket.
        """
        super().__init__(*arguments, **options)
        self._turns, self._unadmitted, self._over, self._hand_on = turns, unadmitted, over, hand_on

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the inherited one
        super().connection_made(transport)
        self.flow = _Flow(transport, self._go_on)
        self._await_head()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        cycle.scope["admitted"] = partial(self._unadmitted.remove, self)  # for the gate
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the running answer, too; the inherited code misses it if later requests wait behind it."""
        self._forget()
        if self._answering is not None:
            self._answering.disconnected = True
        super().connection_lost(exc)
        self._over()

    def data_received(self, data: bytes) -> None:
        if self._has_upgraded:  # see `handle_websocket_upgrade`
            return
        self._unparsed += data
        if len(self._unparsed) > UNPARSED_BYTES:
            self.transport.abort()
            return
        if len(self._unparsed) > SLICE_BYTES:
            self.transport.pause_reading()
        self._go_on()

    def _go_on(self) -> None:
        """Schedule the next slice, unless it is scheduled, or parsed requests are still to be answered."""
        if self._unparsed and not (self._has_turn or self.pipeline or self.flow.read_paused):
            self._has_turn = True
            self._turns.take(self._parse_slice)

    def _parse_slice(self) -> None:
        self._has_turn = False
        if self.transport.is_closing():
            return
        size = min(self._body_left, BODY_SLICE) or SLICE_BYTES
        data, self._unparsed = self._unparsed[:size], self._unparsed[size:]
        super().data_received(data)
        if self._has_upgraded:
            if self.transport.is_closing():
                return
            self._unparsed = b""  # a client must wait for the response before it sends more: RFC 6455, 4.1
            self.transport.resume_reading()
            return
        self._kept += len(data)
        if self._kept > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the request line and the headers are larger than {HEAD_BYTES} bytes")
        if self.transport.is_closing():
            return
        if self._unparsed:
            self.transport.pause_reading()
            self._go_on()
        elif not self.flow.read_paused:
            self.transport.resume_reading()

    def handle_websocket_upgrade(self) -> None:
        """Let the WebSocket protocol take over, unless earlier requests on this connection are still to be answered.

        Their responses would be sent into the WebSocket. So the connection is closed after them, which tells the client
        that its handshake was not handled.
        """
        self._has_upgraded = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self._forget()
        if self._hand_on is not None and self._hand_on(self):
            self.transport.abort()  # this closes only our descriptor; the other process has its own
            return
        super().handle_websocket_upgrade()
        del self.parser, self.flow, self.scope  # they reference this protocol; so all are freed without the collector

    @property
    def head(self) -> bytes:
        """The request's head, rebuilt in the form in which a client sends it."""
        lines = [b"GET " + self.url + b" HTTP/1.1", *(name + b": " + value for name, value in self.headers)]
        return b"\r\n".join([*lines, b"", b""])

    def duplicate(self) -> socket.socket:
        """Return the connection as a socket with its own descriptor, and stop reading from it here."""
        self.transport.pause_reading()
        return socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))

    def on_message_begin(self) -> None:
        self._kept = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # For endpoints with long responses, which count their clients themselves.
        self.scope["counted"] = self._forget  # type: ignore[typeddict-unknown-key]
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._body_left = announced(self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._kept = 0
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._await_head()

    def drop(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _await_head(self) -> None:
        """Start the timeout for the next request's head. The connection counts as the newest again."""
        self._unadmitted.add(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, f"no whole request within {HEAD_SECONDS:g} s")

    def _forget(self) -> None:
        self._unadmitted.remove(self)
        if self._head_timer is not None:
            self._head_timer.cancel()

    def _refuse(self, status: int, reason: str) -> None:
        text = f"{reason}\n".encode()
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self.transport.close()
