"""The two faces for streaming: Rev.ai's wire protocol, and the plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, WebSocket

from app.endpoints.line import WebSocketLine
from app.wire import PATH, BadRequest, Close, CloseCode, Connected, ContentType, StreamRequest

if TYPE_CHECKING:
    from app.session import Sessions


def router(sessions: Sessions) -> APIRouter:
    """Make the routes, for these sessions."""
    routes = APIRouter()

    @routes.websocket("/ws_a")
    async def plain(socket: WebSocket) -> None:
        """16 kHz mono S16LE in, each response out, untouched. The text `EOS` or a close ends the input."""
        await socket.accept()
        line = WebSocketLine(socket)
        await line.close(await sessions.run(line, StreamRequest(ContentType.raw())))

    # SDKs join a base and a path; a base that ends in a slash gives two.
    @routes.websocket("/" + PATH)
    @routes.websocket(PATH)
    async def stream(socket: WebSocket) -> None:
        """Rev.ai's streaming protocol. A refusal is a close frame after the handshake, so that clients see why."""
        await socket.accept()
        line = WebSocketLine(socket)
        try:
            request = StreamRequest.parse(socket.scope["query_string"].decode("latin-1"))
        except BadRequest as error:
            await line.close(Close(CloseCode.BAD_REQUEST, str(error)))
            return

        async def greet(session_id: str) -> None:
            await line.send(Connected(session_id).encode())

        await line.close(await sessions.run(line, request, greet))

    return routes
