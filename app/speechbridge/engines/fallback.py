"""A second engine that serves all streams while the first one fails.

Each connection of a stream chooses its engine when it starts: the first engine if its circuit breaker admits the
connection, otherwise the second. So during an outage all streams run on the second engine. One stream at a time probes
the first; if the probe fails, the stream returns to the second, at the end of its settled audio.

A stream on the second engine returns to the first after a final, once a connection to the first may be tried: its
circuit is closed, or the next probe is due. Several streams may find the same probe due. One of them gets it; the
others reconnect to the second engine, which costs them the time of a connect, and nothing else.

Each stream detects for itself that the first engine accepts audio and does not answer. Such a stream continues on the
second engine at once, and its connection counts as failed.

Both engines get the same audio: formats that only one of them accepts are decoded before (`common`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from speechbridge.engines import Upstream, UpstreamClosed
from speechbridge.engines.health import FAILING, HeldBack
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import with_engine
from syncbridge.start import close, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.engines import Capabilities, Engine, Open
    from speechbridge.engines.circuit import Circuit
    from speechbridge.protocol.request import StreamRequest

logger = logging.getLogger(__name__)

# After a failed try of the first engine, a stream stays on the second for this multiple of the time that the try took:
# so a stream spends at most a fifth of its time on tries.
STAYS = 4.0


def common(first: Capabilities, second: Capabilities) -> Capabilities:
    """Return the capabilities of a stream that may run on either engine: what both of them accept and tolerate."""
    formats = first.known_formats & second.known_formats
    lifetimes = [lifetime for lifetime in (first.lifetime, second.lifetime) if lifetime is not None]
    return replace(
        first,
        formats=formats if first.formats or second.formats else None,
        rates=range(max(first.rates.start, second.rates.start), min(first.rates.stop, second.rates.stop)),
        channels=min(first.channels, second.channels),
        decodes=first.decodes & second.decodes,
        lifetime=min(lifetimes, default=None),
        room=max(first.room, second.room),
        hold=max(first.hold, second.hold),
        tail=min(first.tail, second.tail),
    )


def persistent(open_stream: Open) -> Open:
    """Make every failure to reach the first engine retryable, so that it counts as failing and the second is used.

    Without a second engine, some of these failures, such as a wrong address, are reported to the client at once.
    """

    def opened(request: StreamRequest) -> Upstream:
        try:
            upstream = open_stream(request)
        except UpstreamClosed as error:
            refused = error  # Python unbinds `error` after this block
            upstream = Upstream(lambda _audio: _raise(refused))

        def start(audio: Iterator[bytes]) -> Iterator[str]:
            try:
                yield from started(upstream.start, audio)
            except UpstreamClosed as ending:
                if ending.is_retryable or ending.close.code != CloseCode.UNAVAILABLE:
                    raise
                raise UpstreamClosed(ending.close, has_timed_out=ending.has_timed_out) from ending

        return replace(upstream, start=start)

    return opened


def _raise(error: UpstreamClosed) -> NoReturn:
    raise error


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the two engines. `open` opens a connection; its `start` raises HeldBack before it takes any audio."""

    engine: Engine
    open: Open


class Fallback:
    """One stream: `open` opens its connections, each on the engine that serves it at that moment."""

    def __init__(self, first: Choice, second: Choice, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._second = second
        self._current = first  # the engine of the connection that started last
        self._answered_last = first  # the engine of the last response
        self._is_refused = False  # by the second engine, permanently: it cannot serve this stream
        self._is_second_due = False  # the first has just failed, for all streams: the next connection skips it
        self._stays_until = 0.0  # on the second engine; see STAYS
        self._started_at = 0.0
        self._clock = clock

    def open(self, request: StreamRequest) -> Upstream:
        """Open a connection. It chooses its engine when it starts."""
        connection = _Connection(self, request)
        return Upstream(connection.start, connection.abort, b"".join, is_to_be_replaced=self._may_go_back)

    def settled(self, response: str, begun: float) -> float | None:
        """Return what a response settles, according to the engine of the current connection."""
        settled = self._current.engine.settled
        return None if settled is None else settled(response, begun)

    def stuck(self) -> None:
        """Note that the current connection was aborted because it did not answer."""
        if self._current is self._first and not self._is_refused:
            self._circuit.count_failure()
            self._leave_first()

    @property
    def _circuit(self) -> Circuit:
        return self._first.engine.health.circuit

    def _may_go_back(self) -> bool:
        return self._current is self._second and self._clock() >= self._stays_until and not self._circuit.holds_back

    def choices(self) -> Iterator[Choice]:
        """Yield the engines for a connection, in order: if the circuit breaker of one holds it back, try the next."""
        is_second_due, self._is_second_due = self._is_second_due, False
        if self._is_refused or not (is_second_due or self._clock() < self._stays_until):
            yield self._first
        if not self._is_refused:
            yield self._second

    def starts(self, choice: Choice) -> None:
        """Note that a connection starts, on this engine."""
        self._current = choice
        self._started_at = self._clock()

    def for_client(self, response: str) -> str:
        """Return a response as the client gets it: one of the second engine carries the engine's name."""
        engine = self._current.engine
        if self._current is not self._answered_last:
            self._answered_last = self._current
            logger.warning("the stream continues on %s", engine.name)
        return with_engine(response, engine.name) if self._current is self._second else response

    def failed(self, ending: UpstreamClosed) -> UpstreamClosed:
        """Note how the current connection failed. Returns the exception to raise."""
        if self._current is self._second:
            self._stays_until = 0.0
            if ending.is_retryable:
                return ending
            self._is_refused = True  # not the client's mistake: the first engine may serve this stream
            return UpstreamClosed(Close(CloseCode.UNAVAILABLE, FAILING))
        if not ending.is_retryable or self._is_refused or not self._circuit.is_open:
            return ending
        self._leave_first()
        return UpstreamClosed(ending.close, retry_at_once=True)

    def _leave_first(self) -> None:
        now = self._clock()
        self._is_second_due = True
        self._stays_until = now + STAYS * (now - self._started_at)


class _Connection:
    """One connection of a stream."""

    def __init__(self, stream: Fallback, request: StreamRequest) -> None:
        self._stream = stream
        self._request = request
        self._upstream: Upstream | None = None
        self._is_aborted = False

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        held_back = HeldBack()
        for choice in self._stream.choices():
            try:
                yield from self._responses(choice, audio)
            except HeldBack as error:
                held_back = error
                if self._is_aborted:
                    break
            except UpstreamClosed as ending:
                raise self._stream.failed(ending) from ending
            else:
                return
        raise held_back

    def abort(self) -> None:
        self._is_aborted = True
        if (upstream := self._upstream) is not None and upstream.abort is not None:
            upstream.abort()

    def _responses(self, choice: Choice, audio: Iterator[bytes]) -> Iterator[str]:
        self._stream.starts(choice)
        upstream = self._upstream = choice.open(self._request)
        if self._is_aborted:  # before `_upstream` was set
            self.abort()
        responses = started(upstream.start, audio)
        try:
            for response in responses:
                yield self._stream.for_client(response)
        finally:
            close(responses)
