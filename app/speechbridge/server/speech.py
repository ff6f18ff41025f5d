"""Which speech service the streams use, and what of it must be looked after."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.embedded import EmbeddedRecognizer
from speechbridge.engines.function import plain
from speechbridge.engines.reconnect import ReconnectOptions, resuming
from speechbridge.engines.rev import RevEngine, Timeouts
from speechbridge.loading import load
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.settings import WrongSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from speechbridge.engines import Engine
    from speechbridge.settings import UpstreamSettings

# An application that is mounted within another one has no lifespan of its own.
NOT_RUN = Close(
    CloseCode.INTERNAL, "the recognizer was not started: run this app's lifespan in yours, as the README shows"
)


@dataclass(frozen=True, slots=True)
class SpeechService:
    """How a stream is opened: `engine` opens one. What must be looked after beside it, if anything.

    `name` is for the metrics.
    """

    name: Literal["function", "revai", "recognizer", "embedded"]
    engine: Engine
    rev: RevEngine | None = None
    recognizer: EmbeddedRecognizer | None = None
    has_run: asyncio.Event = field(default_factory=asyncio.Event)  # `running` was entered

    @classmethod
    def choose(
        cls,
        settings: UpstreamSettings,
        connected: Callable[[float | None], object],
        stream_client_start: Callable[..., Iterable[str]] | None = None,
    ) -> SpeechService:
        """Choose one: `stream_client_start` if given, or what the settings name, or the embedded recognizer.

        `connected` is told how many seconds each connection of Rev.ai's SDK took to make, None for one that failed.
        Raises WrongSetting.
        """
        if stream_client_start is not None:
            return cls("function", plain(stream_client_start))
        if settings.start:
            try:
                return cls("function", plain(load(settings.start)))
            except ValueError as error:
                raise WrongSetting(f"SPEECHBRIDGE_START: {error}") from None
        timeouts = Timeouts(settings.connect_seconds, settings.answer_seconds)
        options = ReconnectOptions(
            settings.upstream_lifetime,
            settings.upstream_silence,
            settings.replay_pace,
            settings.answer_seconds,
            settings.stream_bytes,
        )
        if url := settings.upstream_url:
            token = settings.revai_access_token.get_secret_value() or "none"
            rev = RevEngine(lambda: url, token, timeouts, connected)
            return cls(settings.upstream_kind, resuming(rev, options), rev)
        recognizer = _embedded(settings)
        running = asyncio.Event()

        def embedded_url() -> str:
            if not running.is_set():
                raise UpstreamClosed(NOT_RUN, is_retryable=False)
            return recognizer.url()

        rev = RevEngine(embedded_url, "embedded", timeouts, connected)
        return cls("embedded", resuming(rev, options), rev, recognizer, running)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the embedded recognizer, if that is what is used, for as long as the context lasts."""
        self.has_run.set()
        if self.recognizer is None:
            yield
            return
        async with self.recognizer:
            yield

    def trouble(self) -> str | None:
        """Say what is wrong with the speech service; None if nothing is known to be."""
        return self.rev.trouble() if self.rev is not None else None

    def is_failing(self) -> bool:
        """Whether its circuit breaker is open: it fails for everybody."""
        return self.rev is not None and self.rev.circuit.is_open


def _embedded(settings: UpstreamSettings) -> EmbeddedRecognizer:
    given = {
        "--model": settings.model,
        "--language": settings.language,
        "--threads": settings.recognizer_threads,
        "--streams": settings.recognizer_streams,
        "--log-format": settings.log_format,
    }
    return EmbeddedRecognizer(*(str(part) for option in given.items() if option[1] for part in option))
