"""Whether the service lives, whether it takes sessions, and how it does: for those who start, stop and watch it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from speechbridge.server.metrics import CONTENT_TYPE_LATEST, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from speechbridge.server.session import Sessions

DRAINING = "the service is shutting down: connect elsewhere, or again shortly\n"


def router(sessions: Sessions, metrics: Metrics, trouble: Callable[[], str | None]) -> APIRouter:
    """Make the routes. `trouble` tells what is wrong upstream, None if nothing is."""
    routes = APIRouter(default_response_class=PlainTextResponse)

    @routes.get("/livez")
    async def live() -> PlainTextResponse:
        """Whether the event loop turns. It asks nothing else, so that trouble upstream restarts nobody."""
        return PlainTextResponse("alive\n")

    @routes.get("/readyz", responses={503: {"content": {"text/plain": {}}, "description": "Not ready, and why"}})
    async def ready() -> PlainTextResponse:
        """Whether a stream that came now would be served; each thing that it needs has a line."""
        pool = sessions.pool
        free = pool.total - pool.active
        found = {
            "slots": None if free > 0 else f"all {pool.total} are taken",
            "upstream": trouble(),
            "drain": DRAINING.strip() if sessions.draining else None,
        }
        said = {"slots": f"ok, {free} of {pool.total} are free"}
        lines = [f"{name}: {wrong or said.get(name, 'ok')}\n" for name, wrong in found.items()]
        is_ready = not any(found.values())
        return PlainTextResponse("".join(["ready\n" if is_ready else "not ready\n", *lines]), 200 if is_ready else 503)

    @routes.get("/metrics")
    async def scrape() -> Response:
        """Everything that is counted, for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

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
