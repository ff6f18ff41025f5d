"""The two faces for streaming: Rev.ai's wire protocol, and the plain one."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import Connected
from speechbridge.protocol.request import PATH, BadRequest, ContentType, StreamRequest
from speechbridge.protocol.resume import Resume
from speechbridge.server.endpoints.connection import WebSocketConnection
from speechbridge.server.resumable import UNKNOWN, ResumableConnections
from speechbridge.server.session import Sessions, new_id

PATHS = (PATH, "/" + PATH)  # SDKs join a base and a path; a base that ends in a slash gives two


def router(sessions: Sessions, durable: ResumableConnections) -> APIRouter:
    """Make the routes, for these sessions and those of their lines that can be come back to."""
    routes = APIRouter()

    @routes.websocket("/ws_a")
    async def plain(socket: WebSocket) -> None:
        """16 kHz mono S16LE in, each response out, untouched. The text `EOS` or a close ends the input."""
        await socket.accept()
        line = WebSocketConnection(socket)
        await line.close(await sessions.run(line, StreamRequest(ContentType.raw())))

    @routes.websocket(PATHS[1])
    @routes.websocket(PATHS[0])
    async def stream(socket: WebSocket) -> None:
        """Rev.ai's streaming protocol. A refusal is a close frame after the handshake, so that clients see why."""
        await socket.accept()
        line = WebSocketConnection(socket)
        query = socket.scope["query_string"].decode("latin-1")
        resume = Resume.parse(query)
        if resume is not None and resume.key is not None:
            await come_back(line, resume.key, resume.finals)
            return
        try:
            request = StreamRequest.parse(query)
        except BadRequest as error:
            await line.close(Close(CloseCode.BAD_REQUEST, str(error)))
            return
        if resume is not None:
            session_id = new_id()
            lasting = durable.begin(session_id)

            async def outlive() -> Close:
                with socket.scope["visit"].held():  # whoever drops the connection has not left yet
                    return await sessions.run(lasting, request, session_id=session_id)

            durable.run(lasting, outlive())
            await lasting.serve(line, session_id)
            return

        async def greet(session_id: str) -> None:
            await line.send(Connected(session_id).encode())

        await line.close(await sessions.run(line, request, greet))

    async def come_back(line: WebSocketConnection, key: str, finals: int) -> None:
        found = durable.find(key)
        if found is None:
            await line.close(UNKNOWN)
        else:
            lasting, session_id = found
            await lasting.serve(line, session_id, finals)

    return routes
