"""From an engine to the streams that sessions use: everything that is common to all engines, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.engines.bounded import bounded
from speechbridge.engines.fitted import fitted, refusal
from speechbridge.engines.health import guarded
from speechbridge.engines.reconnect import resuming

if TYPE_CHECKING:
    from speechbridge.engines import Engine, Open, Upstream
    from speechbridge.engines.reconnect import ReconnectOptions
    from speechbridge.protocol.request import StreamRequest


def streams(engine: Engine, options: ReconnectOptions) -> Open:
    """Return what opens a stream of an engine: guarded by its circuit breaker, resumable where that can be.

    A connection can begin in the middle of raw audio only if its seconds can be computed from its bytes. So a stream
    that an engine decodes, or with other than 16-bit samples, has one connection, as has one of an engine without
    `settled`.
    """
    connection = fitted(guarded(engine.open, engine.health, options.answer), engine.capabilities)
    resumed = resuming(connection, options, engine.capabilities, engine.settled) if engine.settled else None

    def opened(request: StreamRequest) -> Upstream:
        if (refused := refusal(request, engine.capabilities)) is not None:
            raise refused
        if resumed is None or request.content_type.frame is None:
            return bounded(connection(request), options.answer)
        return resumed(request)

    return opened
