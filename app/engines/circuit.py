"""An upstream that fails for everybody is probed by one stream, not stormed by all.

Streams that retry on their own multiply an outage: each connection of Rev.ai's is billed for 15 s at least, and a
server that comes back meets all of them at once. Streams of one engine share a circuit. After `FAILURES` connections in
a row failed, it is open: one stream may connect at a time, after a pause that doubles, and the others wait for the
outcome. The first connection that succeeds closes it, and all go on.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 5  # in a row, of any streams: one or two are somebody's bad luck
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between probes


class Circuit:
    """Shared by the streams of one upstream. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._failures = 0
        self._probing = False
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES

    def enter(self, is_given_up: Callable[[], bool], patience: float) -> bool:
        """Wait until a connection may be tried, `patience` seconds at most. Returns whether it may.

        One that may must say `succeeded` or `failed` afterwards. Blocks; `wake` has it look at `is_given_up` again.
        """
        deadline = self._clock() + patience
        with self._changed:
            while not is_given_up():
                if not self.is_open:
                    return True
                now = self._clock()
                if now >= deadline:
                    return False
                if not self._probing and now >= self._next_probe:
                    self._probing = True
                    return True
                # A prober announces its outcome; a pause just passes.
                self._changed.wait((deadline if self._probing else min(deadline, self._next_probe)) - now)
            return False

    def succeeded(self) -> None:
        """Close the circuit: somebody was let in."""
        with self._changed:
            self._failures = 0
            self._probing = False
            self._changed.notify_all()

    def failed(self) -> None:
        """Count a connection that failed, or was given up."""
        with self._changed:
            self._failures += 1
            self._probing = False
            if self.is_open:
                pause = min(FIRST_PAUSE * 2 ** (self._failures - FAILURES), LONGEST_PAUSE)
                self._next_probe = self._clock() + pause
            self._changed.notify_all()

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()
