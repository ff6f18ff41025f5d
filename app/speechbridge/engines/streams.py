"""From an engine to the streams that sessions use: combines everything that all engines have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.engines.fallback import Choice, Fallback, common, persistent
from speechbridge.engines.fitted import fitted, refusal
from speechbridge.engines.health import guarded
from speechbridge.engines.reconnect import resuming
from syncbridge import Bounded

if TYPE_CHECKING:
    from speechbridge.engines import Capabilities, Engine, Open, Upstream
    from speechbridge.engines.reconnect import ReconnectOptions
    from speechbridge.protocol.request import StreamRequest


@dataclass(frozen=True, slots=True)
class Streams:
    """Opens streams. `takes` says which audio they accept; any other audio must be decoded before."""

    open: Open
    takes: Capabilities

    def __call__(self, request: StreamRequest) -> Upstream:
        return self.open(request)


def streams(engine: Engine, options: ReconnectOptions, fallback: Engine | None = None) -> Streams:
    """Return what opens streams of an engine: guarded by its circuit breaker, and resumable where possible.

    A new connection can begin in the middle of the audio only if times can be computed from byte positions. So a stream
    has only one connection if the engine decodes its audio, if its samples do not have 16 bits, or if the engine has no
    `settled`.

    With a `fallback`, the streams that it can serve continue there while the engine fails. It must have `settled`, too.
    """
    alone = _alone(engine, options)
    if fallback is None:
        return Streams(alone, engine.capabilities)
    first = _connection(engine, persistent(engine.open), 0.0)
    second = _connection(fallback, fallback.open, 0.0)  # no wait: if both fail, a stream tries them in turn
    last = _connection(fallback, fallback.open, options.answer)  # for a stream with one connection: it cannot retry
    limits = common(engine.capabilities, fallback.capabilities)

    def opened(request: StreamRequest) -> Upstream:
        if refusal(request, engine.capabilities) or refusal(request, fallback.capabilities):
            return alone(request)
        if engine.settled is None or request.content_type.frame is None:
            stream = Fallback(Choice(engine, first), Choice(fallback, last))
            return _bounded(stream.open(request), options.answer)
        stream = Fallback(Choice(engine, first), Choice(fallback, second))
        return resuming(stream.open, options, limits, stream.settled, stream.stuck)(request)

    return Streams(opened, limits)


def _alone(engine: Engine, options: ReconnectOptions) -> Open:
    connection = _connection(engine, engine.open, options.answer)
    resumed = resuming(connection, options, engine.capabilities, engine.settled) if engine.settled else None

    def opened(request: StreamRequest) -> Upstream:
        if (refused := refusal(request, engine.capabilities)) is not None:
            raise refused
        if resumed is None or request.content_type.frame is None:
            return _bounded(connection(request), options.answer)
        return resumed(request)

    return opened


def _bounded(upstream: Upstream, seconds: float) -> Upstream:
    bounded = Bounded(upstream, seconds)
    return replace(upstream, start=bounded, on_stuck=bounded.on_stuck)


def _connection(engine: Engine, open_stream: Open, patience: float) -> Open:
    return fitted(guarded(open_stream, engine.health, patience), engine.capabilities)
