"""The door in front of every WebSocket, whichever endpoint it goes to: an ASGI middleware.

Whoever is not let in is accepted and closed at once with a code and a reason: a browser never sees an HTTP refusal's.

One that exceeds its allowance later on is cut off politely: nothing more of it is read, its endpoint is told that it
has left, says what there is still to say, and then the connection is closed, with a code of the limit's own.

A key comes as `access_token` in the query, as `Authorization: Bearer`, or, from a page's script, which can set neither
headers nor keep a URL to itself, as a subprotocol: `speechbridge.key.KEY` beside `speechbridge`, which we select.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.resume import Resume
from speechbridge.server.admission import Refused, Visitor
from speechbridge.server.endpoints import stream

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from speechbridge.server.admission import Admission, Visit

logger = logging.getLogger(__name__)

SUBPROTOCOL = "speechbridge"
KEY_SUBPROTOCOL = "speechbridge.key."


class Gate:
    """ASGI middleware: let WebSockets in, or refuse them, and see to it that they keep within their limits."""

    def __init__(self, app: ASGIApp, admission: Admission, idle_seconds: float) -> None:
        self._app = app
        self._admission = admission
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        visitor = _visitor(scope)
        offered: list[str] = scope["subprotocols"]
        # Not the endpoints' business; /relay passes on what it is offered, and the key is for us alone.
        scope["subprotocols"] = [name for name in offered if not _is_ours(name)]
        connection = _Connection(receive, send, SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            visit = scope["visit"] = self._admission.admit(visitor)
        except Refused as refusal:
            # Those who knock too often would fill the log as well.
            level = logging.DEBUG if refusal.close.code == CloseCode.TOO_OFTEN else logging.INFO
            logger.log(level, "refused %s with %s", visitor.address, refusal.close)
            await connection.refuse(refusal.close)
            return
        with visit.held():
            await connection.run(self._app, scope, visit, self._idle_seconds)
        if connection.verdict is not None:
            logger.info("closed %s with %s", visitor.address, connection.verdict)


def _visitor(scope: Scope) -> Visitor:
    headers = [(name, value.decode("latin-1")) for name, value in scope["headers"]]
    query = scope["query_string"].decode("latin-1")
    # Elsewhere nothing would be come back to, and the place be had for nothing.
    resume = Resume.parse(query) if scope["path"] in stream.PATHS else None
    bearer = [value[7:] for name, value in headers if name == b"authorization" and value[:7].lower() == "bearer "]
    subprotocols = [
        name.removeprefix(KEY_SUBPROTOCOL) for name in scope["subprotocols"] if name.startswith(KEY_SUBPROTOCOL)
    ]
    return Visitor(
        origins=[value for name, value in headers if name == b"origin"],
        host=next((value for name, value in headers if name == b"host"), ""),
        has_cookie=any(name == b"cookie" for name, _ in headers),
        address=scope["client"][0] if scope["client"] else "unknown",
        key=dict(parse_qsl(query)).get("access_token") or next(iter([*bearer, *subprotocols]), "").strip(),
        is_resuming=resume is not None and resume.key is not None,
    )


def _is_ours(subprotocol: str) -> bool:
    return subprotocol == SUBPROTOCOL or subprotocol.startswith(KEY_SUBPROTOCOL)


class _Connection:
    """A WebSocket between the server and its endpoint."""

    def __init__(self, receive: Receive, send: Send, subprotocol: str | None) -> None:
        self._receive = receive
        self._send = send
        self._subprotocol = subprotocol
        self._visit: Visit | None = None
        self._loop = asyncio.get_running_loop()
        self._active_at = self._loop.time()
        self._idle_seconds = 0.0
        self._idle_look: asyncio.TimerHandle | None = None
        self._idle_end: asyncio.Task[None] | None = None
        self._closed = False
        self.verdict: Close | None = None  # ours, if a limit was exceeded

    async def refuse(self, close: Close) -> None:
        await self._receive()  # its handshake
        await self.send({"type": "websocket.accept"})
        await self.send(_frame(close))

    async def run(self, app: ASGIApp, scope: Scope, visit: Visit, idle_seconds: float) -> None:
        self._visit = visit
        self._idle_seconds = idle_seconds
        try:
            await app(scope, self.receive, self.send)
        finally:
            if self._idle_look is not None:
                self._idle_look.cancel()
            if self._idle_end is not None:
                self._idle_end.cancel()
                await asyncio.gather(self._idle_end, return_exceptions=True)
        if self.verdict is not None and not self._closed:
            await self.send(_frame(self.verdict))

    async def receive(self) -> Message:
        message = await self._receive()
        self._active_at = now = self._loop.time()
        if self._visit is not None and self._visit.has_pace and message["type"] == "websocket.receive":
            text = message.get("text")
            size = len(message.get("bytes") or b"") if text is None else len(text.encode())
            verdict = self._visit.count(size, now)
            if verdict is not None:
                self.verdict = verdict
                return {"type": "websocket.disconnect", "code": verdict.code, "reason": verdict.reason}
        return message

    async def send(self, message: Message) -> None:
        self._active_at = self._loop.time()
        if message["type"] == "websocket.accept":
            message = {**message, "subprotocol": message.get("subprotocol") or self._subprotocol}
            if self._idle_seconds:  # not before: the relay dials, and has a limit of its own for that
                self._end_if_idle()
        elif message["type"] == "websocket.close":
            self._closed = True
            message = message if self.verdict is None else _frame(self.verdict)
        await self._send(message)

    def _end_if_idle(self) -> None:
        """Close a connection on which nothing comes or goes. Nothing is left to say; the server tells its endpoint."""
        left = self._active_at + self._idle_seconds - self._loop.time()
        if left > 0:
            self._idle_look = self._loop.call_later(left, self._end_if_idle)
            return
        reason = f"nothing came or went for {self._idle_seconds:g} s: connect when there is something"
        self.verdict = Close(CloseCode.IDLE, reason)
        self._idle_end = asyncio.create_task(self.send(_frame(self.verdict)), name="idle-close")


def _frame(close: Close) -> Message:
    return {"type": "websocket.close", "code": close.code, "reason": close.reason}
