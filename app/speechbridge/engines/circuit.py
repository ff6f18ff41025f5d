"""A circuit breaker: while an upstream fails for everybody, one stream at a time tries it.

Streams that retry on their own make an outage worse: Rev.ai bills each connection for 15 s at least, and a server that
recovers gets all connections at once. Streams of one engine share a circuit. It opens after `FAILURES` failed
connections in a row, or after one that got no answer in time while no other succeeded. While it is open, one stream at
a time may connect (a probe), after a pause that doubles with each failed probe, and the others wait for the outcome.
The first connection that succeeds closes the circuit, and all streams continue.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from speechbridge.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5  # in a row, of any streams: one or two may have other causes
BACKOFF = Backoff(0.5, 5.0)  # seconds between probes; a failed one costs nothing
PROBE_SECONDS = 15.0  # for the outcome of a probe; if it hangs for longer, another stream may probe


class Entry:
    """Permission to try one connection, given at a time of the circuit's clock."""

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
        """Wait until a connection may be tried, at most `patience` seconds; return None if it may not be.

        Whoever gets an entry must call `succeeded`, `failed` or `abandoned` afterwards. Blocks; `wake` has it look at
        `is_given_up` again, and once that is true it returns None.
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
        """Note that a connection was given up by its own stream: that says nothing about the upstream.

        If it was the probe, the next stream may probe at once.
        """
        with self._changed:
            if entry is self._probe:
                self._probe, self._next_probe = None, self._clock()
                self._changed.notify_all()

    def failed(self, entry: Entry, *, has_timed_out: bool = False) -> None:
        """Count a connection that failed.

        One that got no answer in time counts for all of them: a host that drops packets takes seconds for each try,
        and to wait for `FAILURES` of these would hold up a stream for half a minute. Unless another connection has
        succeeded meanwhile: then it was not the service.

        While the circuit is open, only the failure of the probe is news: the others began before it opened, and a
        hundred streams that fail at one moment count as one failure.
        """
        with self._changed:
            if self.is_open and entry is not self._probe:
                return
            tells_all = has_timed_out and not self.is_open and self._succeeded_at < entry.begun
            self._failures = FAILURES if tells_all else self._failures + 1
            self._probe = None
            if self.is_open:
                self._next_probe = self._clock() + BACKOFF.limit(self._failures - FAILURES)
            self._changed.notify_all()

    def count_failure(self) -> None:
        """Count a failure of a connection that had succeeded, or was given up: as that of a probe, if one is due."""
        if (entry := self.enter(lambda: False, 0.0)) is not None:
            self.failed(entry)

    def wake(self) -> None:
        """Have every waiting stream look again whether it may go on."""
        with self._changed:
            self._changed.notify_all()
