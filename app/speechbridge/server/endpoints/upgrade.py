"""Plain HTTP requests to the addresses of WebSockets: a proxy has dropped headers, or somebody has opened a link."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from speechbridge.protocol.handshake import STATUS, Arrived

HEADERS = {"upgrade": "websocket", "connection": "upgrade", "x-content-type-options": "nosniff"}


def router(*paths: str) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()

    async def refuse(request: Request) -> PlainTextResponse:
        """Tell what has arrived, for `speechbridge doctor` and for people."""
        arrived = Arrived.of(request.scope["http_version"], request.headers.items())
        return PlainTextResponse(arrived.text(), STATUS, HEADERS)

    for path in paths:
        routes.add_api_route(path, refuse, methods=["GET", "HEAD"], include_in_schema=False)
    return routes
