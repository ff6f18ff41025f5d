"""Answers requests at a wrong address: plain HTTP at a WebSocket's path, and a WebSocket at any other path.

Plain HTTP arrives there if a proxy has dropped headers, or if somebody has opened a link. A WebSocket at a wrong path
gets 404: without a route, Starlette would answer 403, and users would suspect their access token.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import PlainTextResponse

from speechbridge.protocol.handshake import STATUS, Arrived

HEADERS = {"upgrade": "websocket", "connection": "upgrade", "x-content-type-options": "nosniff"}


def router(*paths: str) -> APIRouter:
    """Make the routes, which must be included after all others; `paths` are those of WebSockets."""
    routes = APIRouter()

    async def refuse_plain(request: Request) -> PlainTextResponse:
        """Answer with the parts of the handshake that arrived, for `speechbridge doctor` and for people."""
        arrived = Arrived.of(request.scope["http_version"], request.headers.items())
        return PlainTextResponse(arrived.text(), STATUS, HEADERS)

    for path in paths:
        routes.add_api_route(path, refuse_plain, methods=["GET", "HEAD"], include_in_schema=False)

    @routes.websocket("/{path:path}")
    async def refuse_websocket(socket: WebSocket) -> None:
        text = f"there is no WebSocket at this path; it is one of {', '.join(paths)}\n"
        if "websocket.http.response" in socket.scope.get("extensions", {}):
            await socket.send_denial_response(PlainTextResponse(text, 404))
        else:  # another server than ours, which can only answer 403
            await socket.close()

    return routes
