"""The application: wiring only. Each room builds itself from its own group of the settings."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from speechbridge.engines.embedded import RecognizerFailed
from speechbridge.engines.function import function_engine
from speechbridge.logs import hide_queries
from speechbridge.protocol.deepgram import LISTEN
from speechbridge.protocol.flows import PATH as FLOWS
from speechbridge.protocol.openai import CLIENT_SECRETS, REALTIME
from speechbridge.protocol.transcriptions import PATH as TRANSCRIPTIONS
from speechbridge.server.admission import Admission
from speechbridge.server.endpoints import (
    deepgram,
    flows,
    health,
    misdirected,
    openai,
    page,
    relay,
    stream,
    transcriptions,
)
from speechbridge.server.gate import Gate
from speechbridge.server.metrics import Metrics
from speechbridge.server.processors import Processors
from speechbridge.server.resumable import ResumableConnections
from speechbridge.server.session import Sessions
from speechbridge.server.speech import SpeechService, choose, choose_fallback
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from speechbridge.engines import Engine


def create_app(
    settings: Settings | None = None,
    *,
    stream_client_start: Callable[..., Iterable[str]] | None = None,
    engine: Engine | None = None,
) -> FastAPI:
    """Make the application.

    `engine` is the speech SDK. `stream_client_start(audio: Iterator[bytes]) -> Iterable[str]` is the short form of one,
    as in the setting `SPEECHBRIDGE_START`. Without either, the settings choose: `SPEECHBRIDGE_ENGINE`. What the engine
    needs beside its streams, such as the embedded recognizer, lives as long as the application. The settings may name
    another one, `SPEECHBRIDGE_FALLBACK`, that streams go on with while it fails.

    Raises WrongSetting.
    """
    hide_queries()
    settings = settings or Settings.read()
    metrics = Metrics()
    if engine is None:
        engine = choose(settings) if stream_client_start is None else function_engine(stream_client_start)
    speech = SpeechService(engine, settings, metrics.connected, choose_fallback(settings, engine))
    processors = Processors.choose(settings, threads=settings.max_sessions)
    sessions = Sessions(
        speech.open,
        settings,
        takes=speech.takes,
        processors=processors,
        waited=metrics.waited,
        delayed=metrics.delayed,
    )
    resumable = ResumableConnections(settings)
    metrics.read(sessions, speech)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with metrics.watching_loop(), processors.running(), speech.running():
                yield
        except RecognizerFailed as failure:
            app.state.failure = failure if failure.is_explained else None
            raise

    app = FastAPI(title="speechbridge", lifespan=lifespan, openapi_url=None)
    app.state.failure = None  # why it could not start, where one line says it
    app.state.sessions, app.state.resumable, app.state.metrics = sessions, resumable, metrics
    app.add_exception_handler(WebSocketDisconnect, _ignore)
    admission = Admission(settings)
    app.add_middleware(
        Gate, admission=admission, idle_seconds=settings.idle_seconds, posts={TRANSCRIPTIONS, CLIENT_SECRETS}
    )
    app.add_middleware(health.RefuseWhileDraining, sessions=sessions)
    app.include_router(health.router(sessions, metrics, speech.trouble))
    app.include_router(page.router(settings.offered_languages))
    app.include_router(stream.router(sessions, resumable))
    app.include_router(relay.router(settings))
    app.include_router(flows.router(sessions, settings))
    app.include_router(deepgram.router(sessions))
    app.include_router(openai.router(sessions, admission.secrets))
    app.include_router(transcriptions.router(sessions, settings, settings.language))
    app.include_router(misdirected.router(*stream.PATHS, stream.PLAIN, relay.PATH, FLOWS, REALTIME, LISTEN))
    return app


async def _ignore(_socket: WebSocket, _error: Exception) -> None:
    """Do nothing: the client has left, perhaps within its handshake, and there is nobody to tell."""
