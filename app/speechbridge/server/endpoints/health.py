"""Liveness, readiness and metrics, for deployment and monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from speechbridge.server.metrics import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from speechbridge.server.session import Sessions
    from speechbridge.server.shared import Shared

DRAINING = "the service is shutting down: connect to another instance, or try again shortly\n"


def router(shared: Shared) -> APIRouter:
    """Make the routes. Whichever worker answers, the answer is for all workers of the service."""
    routes = APIRouter(default_response_class=PlainTextResponse)

    @routes.head("/livez", include_in_schema=False)
    @routes.get("/livez")
    async def live() -> PlainTextResponse:
        """Liveness: the event loop runs. Nothing else is checked, so that no upstream failure restarts the service."""
        return PlainTextResponse("alive\n")

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", responses={503: {"content": {"text/plain": {}}, "description": "Not ready, and why"}})
    async def ready() -> PlainTextResponse:
        """Readiness: a new stream would be served. The answer has one line for each condition."""
        now = await shared.readiness()
        found = {
            "slots": "" if now.slots_free > 0 else f"all {now.slots} are in use",
            "upstream": now.upstream,
            "drain": DRAINING.strip() if now.is_draining else "",
        }
        details = {"slots": f"ok, {now.slots_free} of {now.slots} are free"}
        lines = [f"{name}: {wrong or details.get(name, 'ok')}\n" for name, wrong in found.items()]
        if now.of_workers > 1:
            lines.append(f"workers: ok, {now.workers} of {now.of_workers} run\n")
        is_ready = not any(found.values())
        return PlainTextResponse("".join(["ready\n" if is_ready else "not ready\n", *lines]), 200 if is_ready else 503)

    @routes.head("/metrics", include_in_schema=False)
    @routes.get("/metrics")
    async def scrape() -> Response:
        """All metrics, in Prometheus' text format."""
        return Response(await shared.metrics(), media_type=CONTENT_TYPE_LATEST)

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
