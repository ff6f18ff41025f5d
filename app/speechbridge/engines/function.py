"""Any function from audio to responses as an engine: another vendor's SDK, a stub for a test, your own code.

Attributes of the function say what it can do beyond that:

    abort     the name of a method of what it returns, which wakes a thread that waits inside it; without it, a method
              named `abort`, `cancel` or `close` is used. (A generator's own `close` is of no use: it cannot be called
              while the generator runs.)
    settled   a function of a response and of the seconds at which its connection began: up to which second the response
              settles the audio, or None. With it, streams are resumed and rotated.
    breaks    the exceptions, beside OSError, after which a stream with `settled` is resumed
    lifetime  seconds after which a stream with `settled` moves to a new connection

A class whose instances can be iterated is such a function, too, and its own methods and attributes are those.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from speechbridge.engines import Capabilities, Engine, Open, Upstream, UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode
from syncbridge import WrongStart, yielding
from syncbridge.start import started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.engines import Settled
    from speechbridge.protocol.request import StreamRequest

ABORTS = ("abort", "cancel", "close")  # a call of gRPC's has the second, a connection the third


def function_engine(stream_client_start: Callable[..., Iterable[str]]) -> Engine:
    """Make an engine of a function; see `plain`. Raises ValueError if an attribute is not what it should be."""
    settled = getattr(stream_client_start, "settled", None)
    if settled is not None and not callable(settled):
        raise ValueError("`settled` is no function of a response and of where its connection began")
    lifetime = getattr(stream_client_start, "lifetime", None)
    if lifetime is not None and not (isinstance(lifetime, int | float) and lifetime > 0):
        raise ValueError("`lifetime` is no number of seconds")
    breaks = getattr(stream_client_start, "breaks", ())
    if not (
        isinstance(breaks, tuple) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in breaks)
    ):
        raise ValueError("`breaks` is no tuple of exceptions")
    open_stream = plain(stream_client_start)
    if settled is None:
        return Engine("function", open_stream)
    resumable = _breaking(open_stream, (OSError, *breaks))
    return Engine("function", resumable, Capabilities(lifetime=lifetime), _checked(settled))


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
        self._named = named if isinstance(named, str) else None
        self._function = function
        self._rest = rest
        self._is_aborted = False
        self._abort: Callable[[], object] | None = None

    def start(self, audio: Iterator[bytes]) -> Iterable[str]:
        returned = self._function(audio, *self._rest)
        self._abort = self._abort_of(returned)
        if self._is_aborted:  # while it connected, when there was nothing to abort yet
            self.abort()
        return returned

    def abort(self) -> None:
        self._is_aborted = True
        if self._abort is not None:
            self._abort()

    def _abort_of(self, returned: Any) -> Callable[[], object] | None:
        if self._named is not None and not callable(getattr(returned, self._named, None)):
            raise WrongStart(f"`abort` names {self._named!r}, and a {type(returned).__name__} has no such method")
        if inspect.isgenerator(returned) or inspect.iscoroutine(returned):
            return None
        methods = (getattr(returned, name, None) for name in ((self._named,) if self._named else ABORTS))
        return next((method for method in methods if callable(method)), None)


def _breaking(open_stream: Open, breaks: tuple[type[Exception], ...]) -> Open:
    """Have these exceptions count as a broken connection, after which a stream is resumed."""

    def opened(request: StreamRequest) -> Upstream:
        upstream = open_stream(request)

        def start(audio: Iterator[bytes]) -> Iterator[str]:
            try:
                yield from started(upstream.start, audio)
            except breaks as error:
                reason = f"the connection to the speech service broke: {type(error).__name__}"
                raise UpstreamClosed(Close(CloseCode.ABNORMAL, reason)) from error

        return Upstream(start, upstream.abort)

    return opened


def _checked(settled: Settled) -> Settled:
    def checked(response: str, begun: float) -> float | None:
        second = settled(response, begun)
        if second is not None and not isinstance(second, int | float):
            raise WrongStart(f"`settled` returned a {type(second).__name__}: it must return seconds, or None")
        return second

    return checked


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
