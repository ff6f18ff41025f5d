"""Any function from audio to responses as an engine: another vendor's SDK, a stub for a test, your own code.

The function may have these attributes:

    abort     the name of a method of the returned object that wakes a thread waiting inside it; by default a method
              named `abort`, `cancel` or `close` is used. (A generator's own `close` does not help: it cannot be called
              while the generator runs.)
    settled   a function of a response and of the second at which its connection began; it returns the second up to
              which the response settles the audio, or None. With it, streams are resumed and rotated.
    breaks    a tuple of exceptions, besides OSError, after which a stream with `settled` is resumed
    lifetime  seconds after which a stream with `settled` moves to a new connection

A class whose instances can be iterated is such a function, too; then these are its own methods and attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.engines import Capabilities, Engine, Upstream, UpstreamClosed
from speechbridge.engines.calls import plain
from speechbridge.protocol.close import Close, CloseCode
from syncbridge import WrongStart
from syncbridge.start import started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.engines import Open, Settled
    from speechbridge.protocol.request import StreamRequest


def function_engine(stream_client_start: Callable[..., Iterable[str]]) -> Engine:
    """Make an engine of a function; see `plain`. Raises ValueError if an attribute has a wrong type."""
    settled = getattr(stream_client_start, "settled", None)
    if settled is not None and not callable(settled):
        raise ValueError("`settled` must be a function of a response and of the second at which its connection began")
    lifetime = getattr(stream_client_start, "lifetime", None)
    if lifetime is not None and not (isinstance(lifetime, int | float) and lifetime > 0):
        raise ValueError("`lifetime` must be a positive number of seconds")
    breaks = getattr(stream_client_start, "breaks", ())
    if not (
        isinstance(breaks, tuple) and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in breaks)
    ):
        raise ValueError("`breaks` must be a tuple of exceptions")
    open_stream = plain(stream_client_start)
    if settled is None:
        return Engine("function", open_stream)
    resumable = _breaking(open_stream, (OSError, *breaks))
    return Engine("function", resumable, Capabilities(lifetime=lifetime), _checked(settled))


def _breaking(open_stream: Open, breaks: tuple[type[Exception], ...]) -> Open:
    """Report these exceptions as a broken connection, after which a stream is resumed."""

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
