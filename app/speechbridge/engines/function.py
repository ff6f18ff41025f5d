"""Any function from audio to responses as an engine: another vendor's SDK, a stub for a test, your own code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from speechbridge.engines import Engine, Upstream
from syncbridge import yielding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from speechbridge.protocol.request import StreamRequest


def plain(stream_client_start: Callable[..., Iterable[str]]) -> Engine:
    """Make an engine of `stream_client_start(audio)`, or of `stream_client_start(audio, request)`.

    The signature decides: a second positional parameter without a default gets the stream's `StreamRequest`.
    """
    wants_request = _takes_two(stream_client_start)

    def engine(request: StreamRequest) -> Upstream:
        if wants_request:
            return Upstream(yielding(str, lambda audio: stream_client_start(audio, request)))
        return Upstream(yielding(str, stream_client_start))

    return engine


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have none: assume one parameter
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        p for p in signature.parameters.values() if p.kind in positional and p.default is inspect.Parameter.empty
    ]
    return len(required) >= 2
