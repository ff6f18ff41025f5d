"""A circuit breaker: while an upstream fails for all streams, one stream at a time tries it.

Streams that retry independently make an outage worse: Rev.ai bills each connection for at least 15 s, and a server that
recovers gets all connections at once. So the streams of one engine share a circuit. It opens after `FAILURES` failed
connections in a row, or after one connection that timed out while no other succeeded. While the circuit is open, one
stream at a time may connect (a probe), after a pause that doubles with each failed probe, and the others wait for the
outcome. The first connection that succeeds closes the circuit, and all streams continue.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from speechbridge.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5  # in a row, over all streams: one or two may have other causes
BACKOFF = Backoff(0.5, 5.0)  # seconds between probes; a failed probe is not billed
PROBE_SECONDS = 15.0  # for the outcome of a probe; if it hangs for longer, another stream may probe


class Entry:
    """Permission to try one connection. `begun` is when it was given, by the circuit's clock."""

    def __init__(self, begun: float = 0.0) -> None:
        self.begun = begun


class Circuit:
    """Shared by the streams of one upstream. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._failures = 0  # in a row; while the circuit is open, only failed probes count
        self._probe: Entry | None = None
        self._next_probe = 0.0
        self._succeeded_at = -math.inf

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES

    @property
    def holds_back(self) -> bool:
        """Whether a new stream would have to wait: the circuit is open, and the next probe is not due yet."""
        return self.is_open and self._clock() < self._next_probe

    def enter(self, is_given_up: Callable[[], bool], patience: float) -> Entry | None:
        """Wait at most `patience` seconds until a connection may be tried; return None if it may not.

        The caller must report the outcome of an entry with `succeeded`, `failed` or `abandoned`. Blocks. Returns None
        once `is_given_up` returns true; call `wake` after it has changed.
        """
        deadline = self._clock() + patience
        with self._changed:
            while not is_given_up():
                now = self._clock()
                entry = Entry(now)
                if not self.is_open:
                    return entry
                if now >= self._next_probe:
                    self._probe, self._next_probe = entry, now + PROBE_SECONDS
                    return entry
                if now >= deadline:
                    return None
                self._changed.wait(min(deadline, self._next_probe) - now)
            return None

    def succeeded(self) -> None:
        """Close the circuit: a connection succeeded."""
        with self._changed:
            self._failures = 0
            self._probe = None
            self._succeeded_at = self._clock()
            self._changed.notify_all()

    def abandoned(self, entry: Entry) -> None:
        """Note that a stream gave up its connection itself: this says nothing about the upstream.

        If the connection was the probe, the next stream may probe at once.
        """
        with self._changed:
            if entry is self._probe:
                self._probe, self._next_probe = None, self._clock()
                self._changed.notify_all()

    def failed(self, entry: Entry, *, has_timed_out: bool = False) -> None:
        """Count a connection that failed.

        One timeout is enough to open the circuit: a host that drops packets costs seconds for each try, and waiting for
        `FAILURES` of them would hold up a stream for half a minute. The exception: if another connection succeeded
        meanwhile, the service is not the cause.

        While the circuit is open, only the failure of the probe counts. The other connections began before the circuit
        opened: a hundred streams that fail at one moment count as one failure.
        """
        with self._changed:
            if self.is_open and entry is not self._probe:
                return
            opens_at_once = has_timed_out and not self.is_open and self._succeeded_at < entry.begun
            self._failures = FAILURES if opens_at_once else self._failures + 1
            self._probe = None
            if self.is_open:
                self._next_probe = self._clock() + BACKOFF.limit(self._failures - FAILURES)
            self._changed.notify_all()

    def count_failure(self) -> None:
        """Count the failure of a connection whose entry was reported already; it counts as a probe if one is due."""
        if (entry := self.enter(lambda: False, 0.0)) is not None:
            self.failed(entry)

    def wake(self) -> None:
        """Make every waiting stream check again whether it was given up or may connect."""
        with self._changed:
            self._changed.notify_all()
