"""The application: only wiring."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from speechbridge.engines.embedded import EmbeddedRecognizer
from speechbridge.engines.function import load, plain
from speechbridge.engines.reconnect import Patience, resuming
from speechbridge.engines.rev import RevEngine, Timeouts
from speechbridge.server import gate
from speechbridge.server.admission import Admission, Allowance, Keys, Origins
from speechbridge.server.endpoints import flows, health, page, relay, stream
from speechbridge.server.metrics import Metrics
from speechbridge.server.processors import Processors
from speechbridge.server.resumable import ResumableConnections
from speechbridge.server.session import Sessions
from speechbridge.settings import Settings, WrongSetting, split
from syncbridge import WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from speechbridge.engines import Engine


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
    metrics = Metrics()
    speech = _speech(settings, stream_client_start, metrics.connected)
    processors = _processors(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(metrics.watch_loop(), name="loop-watch")
        try:
            async with AsyncExitStack() as stack:
                if speech.recognizer is not None:
                    await stack.enter_async_context(speech.recognizer)
                yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if processors is not None:
                processors.close()

    app = FastAPI(title="speechbridge", lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(WebSocketDisconnect, _let_go)
    sessions = app.state.sessions = Sessions(
        speech.engine,
        WorkerPool(settings.max_sessions),
        drain_seconds=settings.drain_seconds,
        session_seconds=settings.session_seconds,
        processors=processors,
        waited=metrics.waited,
    )
    app.state.metrics = metrics
    metrics.read(sessions, speech.is_failing)
    durable = app.state.durable = ResumableConnections(away_seconds=settings.resume_seconds, most=settings.max_sessions)
    admission = _admission(settings)
    app.add_middleware(gate.Gate, admission=admission, idle_seconds=settings.idle_seconds)
    app.add_middleware(health.RefuseWhileDraining, sessions=sessions)
    app.include_router(health.router(sessions, metrics, speech.trouble))
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


@dataclass(frozen=True, slots=True)
class _Speech:
    """Where speech goes: how a stream is opened, and what of it there is to look after."""

    engine: Engine
    rev: RevEngine | None = None
    recognizer: EmbeddedRecognizer | None = None

    def trouble(self) -> str | None:
        return self.rev.trouble() if self.rev is not None else None

    def is_failing(self) -> bool:
        return self.rev is not None and self.rev.circuit.is_open


def _speech(
    settings: Settings,
    stream_client_start: Callable[..., Iterable[str]] | None,
    connected: Callable[[float | None], object],
) -> _Speech:
    timeouts = Timeouts(settings.connect_seconds, settings.answer_seconds)
    patience = Patience(settings.upstream_lifetime, settings.upstream_silence, settings.replay_pace)
    if stream_client_start is not None:
        return _Speech(plain(stream_client_start))
    if settings.start:
        try:
            return _Speech(plain(load(settings.start)))
        except ValueError as error:
            raise WrongSetting(f"SPEECHBRIDGE_START: {error}") from None
    if url := settings.upstream_url:
        token = settings.revai_access_token.get_secret_value() or "none"
        rev = RevEngine(lambda: url, token, timeouts, connected)
        return _Speech(resuming(rev, patience), rev)
    processes = ["--processes", str(settings.recognizer_processes)] if settings.recognizer_processes else []
    streams = ["--streams", str(settings.recognizer_streams)]
    recognizer = EmbeddedRecognizer(*processes, *streams, "--log-format", settings.log_format)
    rev = RevEngine(recognizer.url, "embedded", timeouts, connected)
    return _Speech(resuming(rev, patience), rev, recognizer)


def _admission(settings: Settings) -> Admission:
    try:
        keys = Keys(split(settings.api_keys.get_secret_value()))
    except ValueError as error:
        raise WrongSetting(f"SPEECHBRIDGE_API_KEYS: {error}") from None
    if not keys and not settings.is_private:
        where = settings.published_on or settings.host
        cure = (
            "put what `speechbridge key NAME` prints into SPEECHBRIDGE_API_KEYS, or a file that ..._API_KEYS_FILE names"
        )
        raise WrongSetting(f"SPEECHBRIDGE_HOST: others can reach {where}, and would need no API key: {cure}")
    allowance = Allowance(
        sessions_per_key=settings.sessions_per_key,
        sessions_per_address=settings.sessions_per_address,
        handshakes_per_minute=settings.handshakes_per_minute,
        bytes_per_second=settings.bytes_per_second,
        messages_per_second=settings.messages_per_second,
    )
    return Admission(keys, Origins(split(settings.origins), keyed=bool(keys)), allowance)


def _processors(settings: Settings) -> Processors | None:
    if not settings.processors:
        return None
    try:
        return Processors.load(settings.processors, seconds=settings.processor_seconds, threads=settings.max_sessions)
    except ValueError as error:
        raise WrongSetting(f"SPEECHBRIDGE_PROCESSORS: {error}") from None


async def _let_go(_socket: WebSocket, _error: Exception) -> None:
    """Do nothing: the client left, in the middle of its handshake even, and nobody is there to be told."""
