"""Calls of a start function: which arguments it takes, and how to wake a thread that waits in what it returned."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from speechbridge.engines import Open, Upstream
from syncbridge import WrongStart, yielding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.protocol.request import StreamRequest

ABORTS = ("abort", "cancel", "close")  # methods that may wake the thread: a gRPC call has `cancel`, a socket `close`


def plain(stream_client_start: Callable[..., Iterable[str]]) -> Open:
    """Return what opens streams by calling `stream_client_start(audio)`, or `stream_client_start(audio, request)`.

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
        name = getattr(function, "abort", None)
        self._abort_name = name if isinstance(name, str) else None
        self._function = function
        self._rest = rest  # its further arguments
        self._is_aborted = False
        self._abort: Callable[[], object] | None = None

    def start(self, audio: Iterator[bytes]) -> Iterable[str]:
        returned = self._function(audio, *self._rest)
        self._abort = self._abort_of(returned)
        if self._is_aborted:  # during the call of the function, when there was no method to call yet
            self.abort()
        return returned

    def abort(self) -> None:
        self._is_aborted = True
        if self._abort is not None:
            self._abort()

    def _abort_of(self, returned: Any) -> Callable[[], object] | None:
        if self._abort_name is not None and not callable(getattr(returned, self._abort_name, None)):
            raise WrongStart(f"`abort` names {self._abort_name!r}, and a {type(returned).__name__} has no such method")
        if inspect.isgenerator(returned) or inspect.iscoroutine(returned):  # cannot be closed while they run
            return None
        methods = (getattr(returned, name, None) for name in ((self._abort_name,) if self._abort_name else ABORTS))
        return next((method for method in methods if callable(method)), None)


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some callables written in C have no signature: assume one parameter
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        p for p in signature.parameters.values() if p.kind in positional and p.default is inspect.Parameter.empty
    ]
    return len(required) >= 2
