"""From an engine to the streams that sessions use: everything that is common to all engines, put together."""

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
    """Opens streams. Audio that they `take` is passed on as it is sent, any other is to be decoded before."""

    open: Open
    takes: Capabilities

    def __call__(self, request: StreamRequest) -> Upstream:
        return self.open(request)


def streams(engine: Engine, options: ReconnectOptions, fallback: Engine | None = None) -> Streams:
    """Return what opens streams of an engine: guarded by its circuit breaker, resumable where that can be.

    A connection can begin in the middle of raw audio only if its seconds can be computed from its bytes. So a stream
    that an engine decodes, or with other than 16-bit samples, has one connection, as has one of an engine without
    `settled`.

    With a `fallback`, streams that it can serve go on there while the engine fails. It must have `settled`, too.
    """
    alone = _alone(engine, options)
    if fallback is None:
        return Streams(alone, engine.capabilities)
    first = _connection(engine, persistent(engine.open), 0.0)
    second = _connection(fallback, fallback.open, 0.0)  # both fail: then try either, in place of waiting for one
    last = _connection(fallback, fallback.open, options.answer)  # for a stream that has no second try
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
