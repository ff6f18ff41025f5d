"""Builds the application. Each part makes itself from its own group of the settings; here they are only connected."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from speechbridge.cluster import Unavailable
from speechbridge.cluster.joined import join
from speechbridge.engines.embedded_process import RecognizerFailed
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
    read,
    relay,
    stream,
    transcriptions,
)
from speechbridge.server.gate import Gate
from speechbridge.server.metrics import Metrics
from speechbridge.server.places import Places
from speechbridge.server.processors import Processors
from speechbridge.server.queueing import Queue
from speechbridge.server.replica import unreachable
from speechbridge.server.resumable_connections import ResumableConnections
from speechbridge.server.session import Sessions
from speechbridge.server.shared import Alone
from speechbridge.server.speech import SpeechService, choose, choose_fallback
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from speechbridge.engines import Engine
    from speechbridge.server.shared import Worker


def create_app(
    settings: Settings | None = None,
    *,
    stream_client_start: Callable[..., Iterable[str]] | None = None,
    engine: Engine | None = None,
    fallback: Engine | None = None,
    worker: Worker | None = None,
) -> FastAPI:
    """Make the application.

    `engine` joins the service to a speech SDK. `stream_client_start(audio: Iterator[bytes]) -> Iterable[str]` is a
    shorter way to give one, as in the setting `SPEECHBRIDGE_START`. Without either, the settings select the engine:
    `SPEECHBRIDGE_ENGINE`. Anything else that the engine needs, such as the embedded recognizer, runs as long as the
    application. `fallback`, or the engine that `SPEECHBRIDGE_FALLBACK` names, takes over streams while the first one
    fails. `worker` is given if this is one of several processes of `speechbridge serve --workers`.

    Raises WrongSetting.
    """
    hide_queries()
    settings, metrics = settings or Settings.read(), Metrics()
    recognizer = None if worker is None else worker.recognizer
    if engine is None:
        given = stream_client_start
        engine = choose(settings, recognizer) if given is None else function_engine(given)
    cluster = join(settings, settings.resume_seconds)
    places = Places(cluster.leases)
    fallback = choose_fallback(settings, engine, fallback, recognizer)
    speech = SpeechService(engine, settings, metrics.connected, fallback)
    admission = Admission(settings)
    shared = Alone(admission, settings) if worker is None else worker
    processors = Processors.choose(settings, threads=settings.max_sessions)
    sessions = Sessions(
        speech.open,
        settings,
        takes=speech.open.takes,
        processors=processors,
        waited=metrics.waited,
        delayed=metrics.delayed,
        slot=shared.slot,
        places=places,
    )
    queue = Queue(places, settings.queue_seconds)
    sessions.drain_queue = queue.drain
    readers = read.Readers(cluster.shares, settings.readers)
    resumable = ResumableConnections(
        settings,
        cluster.journal,
        prefix="" if worker is None else worker.prefix,
        took_answered=speech.note_answered,
    )
    sessions.drain_resumable, sessions.drain_readers = resumable.drain, readers.drain
    metrics.read(sessions, speech, resumable)
    shared.read(sessions, metrics, speech.trouble)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with (
                metrics.watching_loop(),
                processors.running(),
                cluster.running(),
                shared.running(),
                places.running(),
                speech.running(),
            ):
                yield
        except Unavailable as error:
            app.state.failure = unreachable(error)
            raise
        except RecognizerFailed as failure:
            app.state.failure = failure if failure.is_explained else None
            raise

    app = FastAPI(title="speechbridge", lifespan=lifespan, openapi_url=None)
    app.state.failure = None  # why it could not start, if one line explains that
    app.state.sessions, app.state.resumable, app.state.metrics = sessions, resumable, metrics
    app.state.readers = readers
    app.add_exception_handler(WebSocketDisconnect, _ignore)
    app.add_middleware(
        Gate,
        shared=shared,
        may_share=admission.may_share,
        idle_seconds=settings.idle_seconds,
        posts={TRANSCRIPTIONS, CLIENT_SECRETS},
    )
    app.add_middleware(health.RefuseWhileDraining, sessions=sessions)
    app.include_router(stream.router(sessions, resumable, queue, cluster.shares))
    app.include_router(health.router(shared))
    app.include_router(page.router(settings.offered_languages))
    app.include_router(read.router(readers))
    app.include_router(relay.router(settings))
    app.include_router(flows.router(sessions, settings))
    app.include_router(deepgram.router(sessions))
    app.include_router(openai.router(sessions, shared.make_secret))
    app.include_router(transcriptions.router(sessions, settings, settings.language))
    app.include_router(misdirected.router(*stream.PATHS, stream.PLAIN, relay.PATH, FLOWS, REALTIME, LISTEN))
    return app


async def _ignore(_socket: WebSocket, _error: Exception) -> None:
    """Do nothing: the client has left, perhaps during its handshake, so no answer can reach it."""
