"""Liveness, readiness and metrics, for those who deploy and monitor the service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from speechbridge.server.metrics import CONTENT_TYPE_LATEST, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from speechbridge.server.session import Sessions

SCRAPE_SECONDS = 0.1  # for which the metrics are not written anew: that takes 3 ms, and anybody may ask on and on

DRAINING = "the service is shutting down: connect to another instance, or try again shortly\n"


def router(sessions: Sessions, metrics: Metrics, trouble: Callable[[], str | None]) -> APIRouter:
    """Make the routes. `trouble` says what is wrong with the speech service, None if nothing is."""
    routes = APIRouter(default_response_class=PlainTextResponse)

    @routes.head("/livez", include_in_schema=False)
    @routes.get("/livez")
    async def live() -> PlainTextResponse:
        """Liveness: the event loop runs. Nothing else is checked, so that no upstream failure restarts the service."""
        return PlainTextResponse("alive\n")

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", responses={503: {"content": {"text/plain": {}}, "description": "Not ready, and why"}})
    async def ready() -> PlainTextResponse:
        """Readiness: a new stream would be served. Each thing that it needs has a line."""
        pool = sessions.pool
        free = pool.total - pool.active
        found = {
            "slots": None if free > 0 else f"all {pool.total} are in use",
            "upstream": trouble(),
            "drain": DRAINING.strip() if sessions.draining else None,
        }
        said = {"slots": f"ok, {free} of {pool.total} are free"}
        lines = [f"{name}: {wrong or said.get(name, 'ok')}\n" for name, wrong in found.items()]
        is_ready = not any(found.values())
        return PlainTextResponse("".join(["ready\n" if is_ready else "not ready\n", *lines]), 200 if is_ready else 503)

    scraped, scraped_at = b"", -SCRAPE_SECONDS

    @routes.head("/metrics", include_in_schema=False)
    @routes.get("/metrics")
    async def scrape() -> Response:
        """All metrics, in Prometheus' text format."""
        nonlocal scraped, scraped_at
        now = asyncio.get_running_loop().time()
        if now - scraped_at >= SCRAPE_SECONDS:
            scraped, scraped_at = metrics.text(), now
        return Response(scraped, media_type=CONTENT_TYPE_LATEST)

    return routes


class RefuseWhileDraining:
    """ASGI middleware: answer WebSocket handshakes with 503 while the sessions drain."""

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
