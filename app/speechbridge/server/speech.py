"""Selects the engines that streams use, by the settings."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from speechbridge.engines import Engine, embedded
from speechbridge.engines.function import function_engine
from speechbridge.engines.reconnect import ReconnectOptions
from speechbridge.engines.rev import RevEngine, Timeouts, rev_engine
from speechbridge.engines.streams import streams
from speechbridge.loading import load
from speechbridge.settings import WrongSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from speechbridge.engines.embedded_process import EmbeddedRecognizer
    from speechbridge.settings import UpstreamSettings


class SpeechService:
    """An engine, perhaps with another one as a fallback. `open` opens a stream.

    `connected` is called for each connection, with the engine's name and how many seconds it took to connect, None if
    that failed.
    """

    def __init__(
        self,
        engine: Engine,
        settings: UpstreamSettings,
        connected: Callable[[str, float | None], object] | None = None,
        fallback: Engine | None = None,
    ) -> None:
        self.name = engine.name
        self.open = streams(engine, _options(settings), fallback)
        self._engines = [engine] if fallback is None else [engine, fallback]
        self.health = {one.name: one.health for one in self._engines}
        for name, health in self.health.items():
            if connected is not None:
                health.connected = partial(connected, name)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engines' own services, such as the embedded recognizer, within the context."""
        async with AsyncExitStack() as stack:
            for engine in self._engines:
                await stack.enter_async_context(engine.running())
            yield

    def note_answered(self) -> None:
        """Note that a stream was answered at another process: the address is right, so a failed connect is retried."""
        for health in self.health.values():
            health.has_connected = True

    def trouble(self) -> str | None:
        """Return what is wrong with the speech service, if its fallback fails, too; None if streams are served."""
        found = [health.trouble() for health in self.health.values()]
        return found[0] if all(found) else None


def choose(settings: UpstreamSettings, recognizer: Callable[[], str] | None = None) -> Engine:
    """Make the engine that the settings name. Raises WrongSetting.

    `recognizer` returns the URL of the embedded recognizer if another process runs it, and may raise UpstreamClosed.
    """
    if settings.engine == "auto":
        return _function(settings) if settings.start else _revai(settings) or _embedded(settings, recognizer)
    return _named(settings.engine, settings, recognizer)


def embedded_recognizer(settings: UpstreamSettings) -> EmbeddedRecognizer | None:
    """Make the embedded recognizer, not started, if one of the engines that the settings name needs it."""
    return embedded.embedded_recognizer(_recognizer_options(settings)) if needs_recognizer(settings) else None


def needs_recognizer(settings: UpstreamSettings) -> bool:
    """Tell whether one of the engines that the settings name is the embedded recognizer."""
    is_chosen = settings.engine == "auto" and not settings.start and not settings.upstream_url
    return is_chosen or "embedded" in (settings.engine, settings.fallback)


def choose_fallback(
    settings: UpstreamSettings,
    engine: Engine,
    fallback: Engine | None = None,
    recognizer: Callable[[], str] | None = None,
) -> Engine | None:
    """Return the engine that takes over streams while `engine` fails: `fallback`, or the one that the settings name.

    Raises WrongSetting if that engine cannot be a fallback.
    """
    if fallback is None and settings.fallback:
        try:
            fallback = _named(settings.fallback, settings, recognizer)
        except WrongSetting as wrong:
            raise WrongSetting(str(wrong).replace("SPEECHBRIDGE_ENGINE", "SPEECHBRIDGE_FALLBACK", 1)) from None
    if fallback is None:
        return None
    if fallback.name == engine.name:
        raise WrongSetting(f"SPEECHBRIDGE_FALLBACK: {engine.name} is the engine itself: name another")
    if fallback.settled is None:
        raise WrongSetting(f"SPEECHBRIDGE_FALLBACK: streams of {fallback.name} cannot be resumed: it has no `settled`")
    return fallback


def _named(name: str, settings: UpstreamSettings, recognizer: Callable[[], str] | None) -> Engine:
    if name == "embedded":
        return _embedded(settings, recognizer)
    if (make := ENGINES.get(name)) is not None:
        return make(settings)
    try:
        engine = load(name)()
    except ValueError as error:
        raise WrongSetting(f"SPEECHBRIDGE_ENGINE: {error}") from None
    if not isinstance(engine, Engine):
        made = type(engine).__name__
        raise WrongSetting(f"SPEECHBRIDGE_ENGINE: {name} makes a {made}, not a speechbridge.engines.Engine")
    return engine


def _options(settings: UpstreamSettings) -> ReconnectOptions:
    return ReconnectOptions(
        settings.upstream_lifetime,
        settings.upstream_silence,
        settings.replay_pace,
        settings.answer_seconds,
        settings.stream_bytes,
    )


def _function(settings: UpstreamSettings) -> Engine:
    try:
        return function_engine(load(settings.start))
    except ValueError as error:
        raise WrongSetting(f"SPEECHBRIDGE_START: {error}") from None


def _revai(settings: UpstreamSettings) -> Engine | None:
    url = settings.upstream_url
    if not url:
        return None
    token = settings.revai_access_token.get_secret_value() or "none"
    return rev_engine(settings.upstream_kind, RevEngine(lambda: url, token, _timeouts(settings)))


def _cloud(settings: UpstreamSettings) -> Engine:
    engine = _revai(settings) if settings.upstream_kind == "revai" else None
    if engine is None:
        raise WrongSetting(
            "SPEECHBRIDGE_ENGINE: revai needs SPEECHBRIDGE_REVAI_ACCESS_TOKEN, or SPEECHBRIDGE_REVAI_URL"
        )
    return engine


def _embedded(settings: UpstreamSettings, elsewhere: Callable[[], str] | None) -> Engine:
    return embedded.embedded_engine(_recognizer_options(settings), _timeouts(settings), elsewhere)


def _recognizer_options(settings: UpstreamSettings) -> dict[str, object]:
    return {
        "--model": settings.model,
        "--language": settings.language,
        "--threads": settings.recognizer_threads,
        "--streams": settings.recognizer_streams,
        "--log-format": settings.log_format,
    }


def _google(settings: UpstreamSettings) -> Engine:
    with _extra("google", "google-cloud-speech"):
        from speechbridge.engines.google import GoogleOptions, google_engine  # noqa: PLC0415 # an extra

        given = GoogleOptions(
            settings.google_version,
            settings.google_project,
            settings.google_location,
            settings.google_model,
            settings.google_endpoint,
            settings.language,
        )
        return google_engine(given, settings.connect_seconds)


def _riva(settings: UpstreamSettings) -> Engine:
    if not settings.riva_url:
        raise WrongSetting("SPEECHBRIDGE_ENGINE: riva needs SPEECHBRIDGE_RIVA_URL")
    with _extra("riva", "nvidia-riva-client"):
        from speechbridge.engines.riva import RivaOptions, riva_engine  # noqa: PLC0415 # an extra

        key = settings.riva_key.get_secret_value()
        given = RivaOptions(settings.riva_url, settings.riva_model, key, settings.riva_function, settings.language)
        return riva_engine(given, settings.connect_seconds)


@contextmanager
def _extra(name: str, package: str) -> Iterator[None]:
    """Turn an error while an engine of an optional package is made into a WrongSetting of one line."""
    try:
        yield
    except ImportError as error:
        how = f"pip install {package}, or '.[{name}]' in a checkout"
        raise WrongSetting(f"SPEECHBRIDGE_ENGINE: {name} needs a package that is missing ({error}): {how}") from None
    except ValueError as error:
        raise WrongSetting(f"SPEECHBRIDGE_ENGINE: {name}: {error}") from None


def _timeouts(settings: UpstreamSettings) -> Timeouts:
    return Timeouts(settings.connect_seconds, settings.answer_seconds)


ENGINES: dict[str, Callable[[UpstreamSettings], Engine]] = {
    "revai": _cloud,
    "google": _google,
    "riva": _riva,
}
