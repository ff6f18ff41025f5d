"""An upstream that fails for everybody is probed by one stream, not stormed by all.

Streams that retry on their own multiply an outage: each connection of Rev.ai's is billed for 15 s at least, and a
server that comes back meets all of them at once. Streams of one engine share a circuit. After `FAILURES` connections in
a row failed, it is open: one stream may connect at a time, after a pause that doubles with each probe that fails, and
the others wait for the outcome. The first connection that succeeds closes it, and all go on.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from speechbridge.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5  # in a row, of any streams: one or two are somebody's bad luck
BACKOFF = Backoff(0.5, 5.0)  # seconds between probes; one that fails costs nothing
PROBE_SECONDS = 15.0  # for a probe's outcome: one that hangs is not waited for, another may try


class Entry:
    """The right to try one connection."""


class Circuit:
    """Shared by the streams of one upstream. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._failures = 0  # in a row; while the circuit is open only those of probes count
        self._probe: Entry | None = None
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES

    @property
    def holds_back(self) -> bool:
        """Whether a stream that came now would have to wait: it is open, and nobody is to try yet."""
        return self.is_open and self._clock() < self._next_probe

    def enter(self, is_given_up: Callable[[], bool], patience: float) -> Entry | None:
        """Wait until a connection may be tried, `patience` seconds at most; None if it may not.

        One that may must say `succeeded` or `failed` afterwards. Blocks; `wake` has it look at `is_given_up` again.
        """
        deadline = self._clock() + patience
        with self._changed:
            while not is_given_up():
                entry, now = Entry(), self._clock()
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
        """Close the circuit: somebody was let in."""
        with self._changed:
            self._failures = 0
            self._probe = None
            self._changed.notify_all()

    def failed(self, entry: Entry) -> None:
        """Count a connection that failed, or was given up.

        While the circuit is open, only the probe's failure says something new: the others began before it opened, and
        a hundred streams that fail at one moment are one failure.
        """
        with self._changed:
            if self.is_open and entry is not self._probe:
                return
            self._failures += 1
            self._probe = None
            if self.is_open:
                self._next_probe = self._clock() + BACKOFF.limit(self._failures - FAILURES)
            self._changed.notify_all()

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()
