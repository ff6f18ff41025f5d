"""The application: only wiring."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from app.durable import DurableLines
from app.endpoints import flows, health, page, relay, stream
from app.engines.embedded import EmbeddedRecognizer
from app.engines.plain import load, plain
from app.engines.resume import Patience, resuming
from app.engines.rev import RevEngine, Timeouts
from app.session import Sessions
from app.settings import Settings, WrongSetting
from bridge import WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from app.engines import Engine


def create_app(
    settings: Settings | None = None, *, stream_client_start: Callable[..., Iterable[str]] | None = None
) -> FastAPI:
    """Make the application.

    `stream_client_start(audio: Iterator[bytes]) -> Iterable[str]` is the one seam between the service and any SDK:
    given here it replaces Rev.ai's, as the setting `SPEECHBRIDGE_START` does. Without either, Rev.ai's SDK talks to the
    server that is set, or to the embedded recognizer, which then lives as long as the application.

    Raises WrongSetting.
    """
    settings = settings or Settings.read()
    recognizer: EmbeddedRecognizer | None = None
    engine: Engine
    timeouts = Timeouts(settings.connect_seconds, settings.answer_seconds)
    patience = Patience(settings.upstream_lifetime, settings.upstream_silence, settings.replay_pace)
    if stream_client_start is not None:
        engine = plain(stream_client_start)
    elif settings.start:
        try:
            engine = plain(load(settings.start))
        except ValueError as error:
            raise WrongSetting(f"SPEECHBRIDGE_START: {error}") from None
    elif url := settings.upstream_url:
        token = settings.revai_access_token.get_secret_value() or "none"
        engine = resuming(RevEngine(lambda: url, token, timeouts), patience)
    else:
        processes = ["--processes", str(settings.recognizer_processes)] if settings.recognizer_processes else []
        recognizer = EmbeddedRecognizer(*processes, "--streams", str(settings.recognizer_streams))
        engine = resuming(RevEngine(recognizer.url, "embedded", timeouts), patience)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if recognizer is None:
            yield
        else:
            async with recognizer:
                yield

    app = FastAPI(title="speechbridge", lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(WebSocketDisconnect, _let_go)
    sessions = app.state.sessions = Sessions(
        engine, WorkerPool(settings.max_sessions), drain_seconds=settings.drain_seconds
    )
    durable = app.state.durable = DurableLines(away_seconds=settings.resume_seconds, most=settings.max_sessions)
    app.add_middleware(health.RefuseWhileDraining, sessions=sessions)
    app.include_router(health.router(sessions))
    app.include_router(page.router())
    app.include_router(stream.router(sessions, durable))
    app.include_router(
        relay.router(settings.relay_url, open_timeout=settings.connect_seconds, max_size=settings.max_message_bytes)
    )
    app.include_router(
        flows.router(
            flows.Flows(
                sessions,
                files=settings.files_dir,
                max_file=settings.max_file_bytes,
                max_message=settings.max_message_bytes,
                proxy=settings.proxy_url,
                proxy_timeout=settings.proxy_seconds,
            )
        )
    )
    return app


async def _let_go(_socket: WebSocket, _error: Exception) -> None:
    """Do nothing: the client left, in the middle of its handshake even, and nobody is there to be told."""
