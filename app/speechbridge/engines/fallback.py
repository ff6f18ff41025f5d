"""A second engine for the time in which the first one fails for all streams.

Each connection of a stream chooses when it starts: the first engine if its circuit breaker lets the connection pass, or
else the second. So during an outage all streams run on the second. One at a time probes the first; if that fails it
comes back to the second, and begins there where the settled audio ends.

A stream on the second engine moves on after a final, once a connection to the first may be tried: its circuit is
closed, or the next probe is due. Several streams may find the same probe due. One gets it, and the others stay with the
second, on a new connection: that costs them the time of a connect, and nothing else.

An engine that takes audio and does not answer is found out by each stream on its own. Such a stream goes on with the
second at once, and it counts as a failed connection.

Both engines are given the same audio: what not both of them take is decoded before it gets here (`common`).
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

STAYS = 4.0  # times as long as the try of the first engine took that failed, a stream stays with the second


def common(first: Capabilities, second: Capabilities) -> Capabilities:
    """Return what a stream that may be on either engine takes, and the bounds of its connections and replay buffer."""
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
    """Have a first engine that cannot be reached count as failing, whatever the reason.

    Without a second engine a wrong address is told at once, and an engine that is not there is not opened.
    """

    def opened(request: StreamRequest) -> Upstream:
        try:
            upstream = open_stream(request)
        except UpstreamClosed as error:
            ending = error  # the name above is unbound after this block
            upstream = Upstream(lambda _audio: _raise(ending))

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
    """One of the two engines. `open` opens a connection that raises HeldBack before it takes any audio."""

    engine: Engine
    open: Open


class Fallback:
    """One stream: `open` opens its connections, each on the engine that serves it at that moment."""

    def __init__(self, first: Choice, second: Choice, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._second = second
        self._on = first  # where the connection is that started last
        self._heard = first  # the last that answered
        self._is_refused = False  # by the second, for good: it cannot serve this stream
        self._is_second_due = False  # as the first has failed just now, and fails for all
        self._stays_until = 0.0  # on the second: what a try of the first costs must not be the rule
        self._started_at = 0.0
        self._clock = clock

    def open(self, request: StreamRequest) -> Upstream:
        """Open a connection. Where it goes is chosen when it starts."""
        connection = _Connection(self, request)
        return Upstream(connection.start, connection.abort, b"".join, is_to_be_replaced=self._may_go_back)

    def settled(self, response: str, begun: float) -> float | None:
        """Return what a response settles, as the engine has it that gave it."""
        settled = self._on.engine.settled
        return None if settled is None else settled(response, begun)

    def stuck(self) -> None:
        """Note that the connection that ran last was aborted, as it did not answer."""
        if self._on is self._first and not self._is_refused:
            self._circuit.count_failure()
            self._leave()

    @property
    def _circuit(self) -> Circuit:
        return self._first.engine.health.circuit

    def _may_go_back(self) -> bool:
        return self._on is self._second and self._clock() >= self._stays_until and not self._circuit.holds_back

    def choices(self) -> Iterator[Choice]:
        """Yield where a connection is to be tried: one that is held back there goes to the next."""
        is_second_due, self._is_second_due = self._is_second_due, False
        if self._is_refused or not (is_second_due or self._clock() < self._stays_until):
            yield self._first
        if not self._is_refused:
            yield self._second

    def starts(self, choice: Choice) -> None:
        """Note where a connection starts."""
        self._on = choice
        self._started_at = self._clock()

    def told(self, response: str) -> str:
        """Return what the client is told: a response of the second engine names it."""
        if self._on is not self._heard:
            self._heard = self._on
            logger.warning("the stream goes on with %s", self._on.engine.name)
        return with_engine(response, self._on.engine.name) if self._on is self._second else response

    def failed(self, ending: UpstreamClosed) -> UpstreamClosed:
        """Note how a connection failed. Returns what is to be raised."""
        if self._on is self._second:
            self._stays_until = 0.0
            if ending.is_retryable:
                return ending
            self._is_refused = True  # it is not the client's mistake: the first may serve it
            return UpstreamClosed(Close(CloseCode.UNAVAILABLE, FAILING))
        if not ending.is_retryable or self._is_refused or not self._circuit.is_open:
            return ending
        self._leave()
        return UpstreamClosed(ending.close, is_at_once=True)

    def _leave(self) -> None:
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
                yield from self._on(choice, audio)
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

    def _on(self, choice: Choice, audio: Iterator[bytes]) -> Iterator[str]:
        self._stream.starts(choice)
        upstream = self._upstream = choice.open(self._request)
        if self._is_aborted:  # before there was anything to abort
            self.abort()
        responses = started(upstream.start, audio)
        try:
            for response in responses:
                yield self._stream.told(response)
        finally:
            close(responses)
