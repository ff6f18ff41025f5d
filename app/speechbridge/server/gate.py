"""Admission, in front of every WebSocket endpoint: an ASGI middleware.

A connection that is refused is accepted first, and closed at once with a code and a reason: a browser's script never
sees the status of a refused handshake.

If a client exceeds a rate later, nothing more is read from it and its endpoint is told that it has left. The endpoint
sends what it still has to send; then the connection is closed with the code of that limit. Our server counts what
comes, frame by frame (`scope["meter"]`); under another server the gate counts messages.

A client sends its key as `access_token` in the query or as `Authorization: Bearer`. A page's script cannot set headers,
and a URL is easily seen by others, so it sends the key as a subprotocol: `speechbridge.key.KEY`, beside `speechbridge`,
which we select.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.resume import Resume
from speechbridge.server.admission import Handshake
from speechbridge.server.endpoints import stream
from speechbridge.server.limits import Refused
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from speechbridge.server.meter import Meter
    from speechbridge.server.shared import Lease

logger = logging.getLogger(__name__)

SUBPROTOCOL = "speechbridge"
KEY_SUBPROTOCOL = "speechbridge.key."


class Gate:
    """ASGI middleware: admit WebSockets or refuse them, and close those that exceed their limits."""

    def __init__(self, app: ASGIApp, admit: Callable[[Handshake], Awaitable[Lease]], idle_seconds: float) -> None:
        self._app = app
        self._admit = admit
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        handshake = _handshake(scope)
        offered: list[str] = scope["subprotocols"]
        # The endpoints do not see them: /relay passes on what it is offered, and the key is for us alone.
        scope["subprotocols"] = [name for name in offered if not _is_ours(name)]
        connection = _Connection(receive, send, SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            lease = scope["lease"] = await self._admit(handshake)
        except Refused as refusal:
            # Clients that connect too often would fill the log as well.
            level = logging.DEBUG if refusal.close.code == CloseCode.TOO_OFTEN else logging.INFO
            logger.log(level, "refused %s with %s", handshake.address, refusal.close)
            await connection.refuse(refusal.close)
            return
        with lease.held():
            await connection.run(self._app, scope, lease, self._idle_seconds)
        if connection.verdict is not None:
            logger.info("closed %s with %s", handshake.address, connection.verdict)


def _handshake(scope: Scope) -> Handshake:
    headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
    query = scope["query_string"].decode("latin-1")
    # Only these endpoints resume streams. Elsewhere a connection would get its lease without taking up a place.
    resume = Resume.parse(query) if _own_path(scope) in stream.PATHS else None
    bearer = [value[7:] for name, value in headers if name == b"authorization" and value[:7].lower() == "bearer "]
    subprotocols = [
        name.removeprefix(KEY_SUBPROTOCOL) for name in scope["subprotocols"] if name.startswith(KEY_SUBPROTOCOL)
    ]
    return Handshake(
        origins=[value for name, value in headers if name == b"origin"],
        host=next((value for name, value in headers if name == b"host"), ""),
        has_cookie=any(name == b"cookie" for name, _ in headers),
        address=scope["client"][0] if scope["client"] else "unknown",
        key=dict(parse_qsl(query)).get("access_token") or next(iter([*bearer, *subprotocols]), "").strip(),
        is_resuming=resume is not None and resume.key is not None,
    )


def _own_path(scope: Scope) -> str:
    """Return the path as the routes have it: without the prefix under which we are mounted, or a proxy publishes us."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(prefix) if path.startswith(prefix + "/") else path


def _is_ours(subprotocol: str) -> bool:
    return subprotocol == SUBPROTOCOL or subprotocol.startswith(KEY_SUBPROTOCOL)


class _Connection:
    """A WebSocket between the server and its endpoint."""

    def __init__(self, receive: Receive, send: Send, subprotocol: str | None) -> None:
        self._receive = receive
        self._send = send
        self._subprotocol = subprotocol
        self._lease: Lease | None = None
        self._meter: Meter | None = None
        self._loop = asyncio.get_running_loop()
        self._active_at = self._loop.time()
        self._idle_seconds = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_close: asyncio.Task[None] | None = None
        self._closed = False
        self.verdict: Close | None = None  # ours, if a limit was exceeded

    async def refuse(self, close: Close) -> None:
        await self._receive()  # its handshake
        await self.send({"type": "websocket.accept"})
        await self.send(_frame(close))

    async def run(self, app: ASGIApp, scope: Scope, lease: Lease, idle_seconds: float) -> None:
        self._lease = lease
        self._meter = scope.get("meter")
        if self._meter is not None and lease.is_metered:
            self._meter.limit = lease.count
        self._idle_seconds = idle_seconds
        try:
            await app(scope, self.receive, self.send)
        finally:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            if self._idle_close is not None:
                await cancel_and_wait(self._idle_close)
        if self.verdict is not None and not self._closed:
            await self.send(_frame(self.verdict))

    async def receive(self) -> Message:
        message = await self._receive()
        self._active_at = now = self._loop.time()
        verdict = None
        if self._meter is not None:
            verdict = self._meter.verdict if message["type"] == "websocket.disconnect" else None
        elif self._lease is not None and self._lease.is_metered and message["type"] == "websocket.receive":
            verdict = self._lease.count(_size(message), 1, now)
        if verdict is None:
            return message
        self.verdict = verdict
        return {"type": "websocket.disconnect", "code": verdict.code, "reason": verdict.reason}

    async def send(self, message: Message) -> None:
        self._active_at = self._loop.time()
        if message["type"] == "websocket.accept":
            message = {**message, "subprotocol": message.get("subprotocol") or self._subprotocol}
            if self._idle_seconds:  # not before: while /relay connects, its own timeout holds
                self._end_if_idle()
        elif message["type"] == "websocket.close":
            self._closed = True
            message = message if self.verdict is None else _frame(self.verdict)
        await self._send(message)

    def _end_if_idle(self) -> None:
        """Close a connection without traffic. The server then tells its endpoint; there is nothing left to send."""
        left = self._active_at + self._idle_seconds - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._end_if_idle)
            return
        reason = f"no traffic for {self._idle_seconds:g} s: connect when there is something to send"
        self.verdict = Close(CloseCode.IDLE, reason)
        self._idle_close = asyncio.create_task(self.send(_frame(self.verdict)), name="idle-close")


def _size(message: Message) -> int:
    text: str | None = message.get("text")
    return len(message.get("bytes") or b"") if text is None else len(text.encode())


def _frame(close: Close) -> Message:
    return {"type": "websocket.close", "code": close.code, "reason": close.reason}
