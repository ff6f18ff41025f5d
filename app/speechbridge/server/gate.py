"""ASGI middleware in front of every endpoint that takes speech: it admits clients, and enforces their limits.

A refused WebSocket is accepted first, and then closed at once with a code and a reason, because a browser's script
never sees the status of a refused handshake.

If a client exceeds a rate later, nothing more is read from it, and its endpoint sees a disconnect. The endpoint sends
its remaining messages; then the connection is closed with the close code of that limit. Our own server counts frames
(`scope["meter"]`); under another server the gate counts messages.

`credentials.py` explains where a client sends its key.

A POST to one of the application's `posts` is admitted like a handshake, and counts as a connection until it is
answered. If it is refused, the answer has an HTTP status. The bytes of its body are counted, too: if a client sends too
fast, the gate stops reading for a while. Pages of other origins may read the answer if they may connect (CORS).
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from speechbridge.protocol import reading
from speechbridge.protocol.api_errors import ApiError
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.deepgram import LISTEN, wrong
from speechbridge.protocol.openai import CLIENT_SECRETS, REALTIME, ending
from speechbridge.protocol.resume import Resume
from speechbridge.server.admission import Handshake
from speechbridge.server.body import Body, refuse
from speechbridge.server.credentials import Credentials
from speechbridge.server.endpoints import deepgram, openai, stream
from speechbridge.server.limits import Refused
from speechbridge.server.meter import LARGER
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from speechbridge.server.meter import Meter
    from speechbridge.server.shared import Lease, Shared

logger = logging.getLogger(__name__)

READ = f"{reading.PATH}/"
TIMES_LARGER = {REALTIME: LARGER, LISTEN: 1}
"""How much larger a message may be, on those paths whose protocol has an error message for one that is too large."""
PREFLIGHT = [
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, *"),
    (b"access-control-max-age", b"600"),
]


class Gate:
    """ASGI middleware: admits or refuses WebSockets, and POSTs to `posts`; closes those that exceed their limits."""

    def __init__(
        self,
        app: ASGIApp,
        shared: Shared,
        may_share: Callable[[Handshake], bool],
        idle_seconds: float,
        posts: Collection[str] = frozenset(),
    ) -> None:
        self._app = app
        self._shared = shared
        self._may_share = may_share
        self._idle_seconds = idle_seconds
        self._posts = posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _own_path(scope) in self._posts:
            await self._request(scope, receive, send)
            return
        if scope["type"] != "websocket" or _own_path(scope).startswith(READ):  # readers have a token
            await self._app(scope, receive, send)
            return
        credentials = _credentials(scope)
        handshake = _handshake(scope, credentials)
        scope["subprotocols"] = list(credentials.others)
        connection = _Connection(receive, send, credentials.selected, _closing_message(_own_path(scope)))
        try:
            lease = scope["lease"] = await self._shared.admit(handshake)
        except Refused as refusal:
            _log_refusal(handshake, refusal)
            if _own_path(scope) == LISTEN and deepgram.can_deny(scope):
                await connection.deny(*deepgram.denial(refusal.close))
                return
            await connection.refuse(refusal.close)
            return
        with lease.held():
            scope["client_secret"] = await self._shared.find_secret(credentials.key)
            await connection.run(self._app, scope, lease, self._idle_seconds)
        if connection.verdict is not None:
            logger.info("closed %s with %s", handshake.address, connection.verdict)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST, or a browser's preflight request before a POST from a page of another origin."""
        handshake = _handshake(scope, _credentials(scope))
        if self._may_share(handshake):
            send = _shared(handshake.origins[0], send)
            if scope["method"] == "OPTIONS":
                await send({"type": "http.response.start", "status": 204, "headers": PREFLIGHT})
                await send({"type": "http.response.body", "body": b""})
                return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            lease = scope["lease"] = await self._shared.admit(handshake)
        except Refused as refusal:
            _log_refusal(handshake, refusal)
            await refuse(ApiError.of(refusal.close), Body(receive), send)
            return
        scope.get("admitted", lambda: None)()
        with lease.held():
            await self._app(scope, _paced(receive, lease), send)


def _log_refusal(handshake: Handshake, refusal: Refused) -> None:
    # Otherwise clients that connect too often would fill the log.
    level = logging.DEBUG if refusal.close.code == CloseCode.TOO_OFTEN else logging.INFO
    logger.log(level, "refused %s with %s", handshake.address, refusal.close)


def _shared(origin: str, send: Send) -> Send:
    """Let a page of this origin read the response."""
    shared = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin")]

    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *shared]}
        await send(message)

    return send_shared


def _paced(receive: Receive, lease: Lease) -> Receive:
    """Read no faster than the limits of the address and of the key allow."""

    async def receive_paced() -> Message:
        message = await receive()
        if seconds := lease.pause(len(message.get("body", b"")), asyncio.get_running_loop().time()):
            await asyncio.sleep(seconds)
        return message

    return receive_paced


def _credentials(scope: Scope) -> Credentials:
    query = scope["query_string"].decode("latin-1")
    return Credentials.of(_own_path(scope), query, _headers(scope), scope.get("subprotocols", ()))


def _headers(scope: Scope) -> list[tuple[bytes, str]]:
    return [(name, value.decode("latin-1")) for name, value in scope["headers"]]


def _handshake(scope: Scope, credentials: Credentials) -> Handshake:
    headers = _headers(scope)
    # Only these endpoints resume streams. On others, `is_resuming` would give a connection that is not counted.
    is_stream = _own_path(scope) in stream.PATHS
    resume = Resume.parse(scope["query_string"].decode("latin-1")) if is_stream else None
    return Handshake(
        origins=[value for name, value in headers if name == b"origin"],
        host=next((value for name, value in headers if name == b"host"), ""),
        has_cookie=any(name == b"cookie" for name, _ in headers),
        address=scope["client"][0] if scope["client"] else "unknown",
        key=credentials.key,
        takes_secrets=_own_path(scope) != CLIENT_SECRETS,
        is_resuming=resume is not None and resume.key is not None,
    )


def _own_path(scope: Scope) -> str:
    """Return the path without the prefix under which the application is mounted, or published by a proxy."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(prefix) if path.startswith(prefix + "/") else path


class _Connection:
    """A WebSocket between the server and its endpoint."""

    def __init__(
        self, receive: Receive, send: Send, subprotocol: str | None, telling: Callable[[Close], str] | None
    ) -> None:
        self._receive = receive
        self._send = send
        self._closing_message = telling
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
        self.verdict = close
        await self.send(_frame(close))

    async def deny(self, *messages: Message) -> None:
        """Answer the handshake over HTTP, for clients that read that."""
        await self._receive()
        for message in messages:
            await self._send(message)

    async def run(self, app: ASGIApp, scope: Scope, lease: Lease, idle_seconds: float) -> None:
        self._lease = lease
        self._meter = scope.get("meter")
        if self._meter is not None:
            if times := TIMES_LARGER.get(_own_path(scope)):
                self._meter.allow_larger(times)
            if lease.is_metered:
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
            if self._idle_seconds:  # not before: while /relay connects, its own timeout applies
                self._end_if_idle()
        elif message["type"] == "websocket.close" and self.verdict is not None:
            if self._closing_message is not None and not self._closed:
                await self._send({"type": "websocket.send", "text": self._closing_message(self.verdict)})
            message = _frame(self.verdict)
        self._closed = self._closed or message["type"] == "websocket.close"
        await self._send(message)

    def _end_if_idle(self) -> None:
        """Close a connection without traffic. Its endpoint then gets a disconnect, and has nothing left to send."""
        left = self._active_at + self._idle_seconds - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._end_if_idle)
            return
        reason = f"no traffic for {self._idle_seconds:g} s: connect when there is something to send"
        self.verdict = Close(CloseCode.IDLE, reason)
        self._idle_close = asyncio.create_task(self.send(_frame(self.verdict)), name="idle-close")


def _closing_message(path: str) -> Callable[[Close], str] | None:
    """Return the function that writes the message that a path's protocol sends before a close frame, if it has one."""
    messages: dict[str, Callable[[Close], str]] = {
        REALTIME: lambda close: openai.encode(ending(close)),
        LISTEN: lambda close: json.dumps(wrong(close.reason)),
    }
    return messages.get(path)


def _size(message: Message) -> int:
    text: str | None = message.get("text")
    return len(message.get("bytes") or b"") if text is None else len(text.encode())


def _frame(close: Close) -> Message:
    return {"type": "websocket.close", "code": close.code, "reason": close.reason}
