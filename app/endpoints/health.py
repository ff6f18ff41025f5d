"""Whether the service lives, and whether it takes sessions: for those who start, stop and balance it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from app.session import Sessions

DRAINING = "the service is shutting down: connect elsewhere, or again shortly\n"


def router(sessions: Sessions) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()

    @routes.get("/livez")
    async def live() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @routes.get("/readyz")
    async def ready() -> PlainTextResponse:
        return PlainTextResponse(DRAINING, 503) if sessions.draining else PlainTextResponse("ready\n")

    return routes


class RefuseWhileDraining:
    """ASGI middleware: answer WebSockets with 503 once the sessions drain, before they are accepted."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and self._sessions.draining:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "websocket.http.response.start", "status": 503, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": DRAINING.encode()})
        else:
            await self._app(scope, receive, send)
