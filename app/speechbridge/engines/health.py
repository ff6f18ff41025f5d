"""The health of a speech service, as all streams to it see it: whether it can be reached, and whether it answers."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.circuit import Circuit
from speechbridge.protocol.close import Close, CloseCode, fit_reason
from syncbridge.start import close, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.engines import Open, Upstream
    from speechbridge.protocol.request import StreamRequest

FAULT_SECONDS = 5.0  # for which a permanent failure counts as trouble; then another connection may try

FAILING = "the speech service fails for all streams at the moment"


class HeldBack(UpstreamClosed):
    """The circuit breaker admitted no connection. No audio was taken."""

    def __init__(self) -> None:
        super().__init__(Close(CloseCode.UNAVAILABLE, FAILING))


class Health:
    """Shared by the streams of one engine. Thread-safe.

    `connected` is called in the worker threads for each connection: with the seconds that it took, or with None if it
    failed. `check` returns a further reason for trouble; None if there is none.
    """

    def __init__(
        self,
        connected: Callable[[float | None], object] = lambda _seconds: None,
        check: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.connected = connected
        self.circuit = Circuit()
        self.has_connected = False  # at any time: so the address is right
        self.connections = 0  # open ones, and those being made
        self._lock = threading.Lock()  # guards `connections`
        self._check = check
        self._fault, self._fault_at = "", 0.0

    def trouble(self) -> str | None:
        """Return why a new stream would fail; None if nothing is known to be wrong."""
        if why := self._check():
            return why
        if time.monotonic() < self._fault_at + FAULT_SECONDS:
            return self._fault
        return FAILING if self.circuit.holds_back else None

    @contextmanager
    def connection(self) -> Iterator[None]:
        """Count a connection for as long as the context lasts."""
        with self._lock:
            self.connections += 1
        try:
            yield
        finally:
            with self._lock:
                self.connections -= 1

    def answered(self) -> None:
        """Note that the service has accepted a stream."""
        self.circuit.succeeded()

    def unreachable(self, reason: str, *, is_retryable: bool, has_timed_out: bool = False) -> UpstreamClosed:
        """Return the exception to raise when there is no connection. If it is not retryable, `trouble` reports it."""
        if not is_retryable:
            self._fault, self._fault_at = reason, time.monotonic()
        close = Close(CloseCode.UNAVAILABLE, fit_reason(reason))
        return UpstreamClosed(close, is_retryable=is_retryable, has_timed_out=has_timed_out)


def guarded(open_stream: Open, health: Health, patience: float) -> Open:
    """Make streams wait for the circuit breaker, at most `patience` seconds each, and report their outcome to it.

    Only UpstreamClosed counts as a failure of the service: any other error may be the stream's own.
    """

    def opened(request: StreamRequest) -> Upstream:
        guard = _Guard(open_stream(request), health, patience)
        return replace(guard.upstream, start=guard.start, abort=guard.abort)

    return opened


class _Guard:
    def __init__(self, upstream: Upstream, health: Health, patience: float) -> None:
        self.upstream = upstream
        self._health = health
        self._patience = patience
        self._is_aborted = threading.Event()  # by us: the service is not to blame
        self._has_answered = False

    def abort(self) -> None:
        self._is_aborted.set()
        if self.upstream.abort is not None:
            self.upstream.abort()
        self._health.circuit.wake()

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        circuit = self._health.circuit
        entry = circuit.enter(self._is_aborted.is_set, self._patience)
        if entry is None:
            raise HeldBack
        has_failed = has_timed_out = False
        try:
            with self._health.connection():
                yield from self._responses(audio)
            self._answered()
        except UpstreamClosed as ending:
            has_failed, has_timed_out = ending.is_retryable and not self._is_aborted.is_set(), ending.has_timed_out
            if not ending.is_retryable:  # the service works, and refused this stream; an open circuit would hide why
                self._answered()
            raise
        finally:
            if not self._has_answered and not (self.upstream.has_answered and self.upstream.has_answered()):
                if has_failed:
                    circuit.failed(entry, has_timed_out=has_timed_out)
                else:
                    circuit.abandoned(entry)

    def _responses(self, audio: Iterator[bytes]) -> Iterator[str]:
        responses = started(self.upstream.start, audio)
        try:
            for response in responses:
                if not self._has_answered:
                    self._answered()
                yield response
        finally:
            close(responses)

    def _answered(self) -> None:
        self._has_answered = True
        self._health.answered()
