"""Any function from audio to responses as an engine: another vendor's SDK, a stub for a test, your own code.

A thread that waits inside the function can be woken only with its help. What it returns may have a method for that:
the one that the function's attribute `abort` names, or `cancel`, or `close`. (A generator's own `close` is of no use:
it cannot be called while the generator runs.) With an attribute `settled`, streams are resumed and rotated.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from speechbridge.engines import Engine, Open, Upstream
from syncbridge import yielding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.engines import Settled
    from speechbridge.protocol.request import StreamRequest

ABORTS = ("cancel", "close")  # a call of gRPC's has the first, a connection the second


def function_engine(stream_client_start: Callable[..., Iterable[str]]) -> Engine:
    """Make an engine of a function; see `plain`.

    Raises ValueError if its attributes `abort` and `settled` are not the name of a method and a function.
    """
    settled: Settled | None = getattr(stream_client_start, "settled", None)
    if settled is not None and not callable(settled):
        raise ValueError("`settled` is no function of a response and of where its connection began")
    abort = getattr(stream_client_start, "abort", None)
    if abort is not None and not isinstance(abort, str):
        raise ValueError("`abort` is to name a method of what the function returns")
    return Engine("function", plain(stream_client_start), settled=settled)


def plain(stream_client_start: Callable[..., Iterable[str]]) -> Open:
    """Make streams of `stream_client_start(audio)`, or of `stream_client_start(audio, request)`.

    The signature decides: a second positional parameter without a default gets the stream's `StreamRequest`.
    """
    wants_request = _takes_two(stream_client_start)

    def opened(request: StreamRequest) -> Upstream:
        call = _Call(stream_client_start, (request,) if wants_request else ())
        return Upstream(yielding(str, call.start), call.abort)

    return opened


class _Call:
    """One call of the function, and what it returned."""

    def __init__(self, function: Callable[..., Iterable[str]], rest: tuple[StreamRequest, ...]) -> None:
        named = getattr(function, "abort", None)
        self._names = (named, *ABORTS) if isinstance(named, str) else ABORTS
        self._function = function
        self._rest = rest
        self._is_aborted = False
        self._returned: Any = None

    def start(self, audio: Iterator[bytes]) -> Iterable[str]:
        self._returned = self._function(audio, *self._rest)
        if self._is_aborted:  # while it connected, when there was nothing to abort yet
            self.abort()
        return self._returned  # type: ignore[no-any-return] # `yielding` judges it

    def abort(self) -> None:
        self._is_aborted = True
        if self._returned is None or inspect.isgenerator(self._returned) or inspect.iscoroutine(self._returned):
            return
        for name in self._names:
            method = getattr(self._returned, name, None)
            if callable(method):
                method()
                return


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
