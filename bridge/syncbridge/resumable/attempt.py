"""One attempt: what it was given and when, when it is to be replaced, and whether it is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from syncbridge.resumable.watchdog import State, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syncbridge.resumable.rules import Resumption
    from syncbridge.resumable.tap import Tap

QUIET_SHARE = 0.1  # of the lifetime, at its end: here an attempt is replaced at the first quiet chunk


class LiveAttempt:
    """An attempt that runs: its connection, and its own iterator over the ring.

    `position`, the times in `had_at` and the watchdog are guarded by the tap's lock.
    """

    def __init__(self, rules: Resumption[Any], tap: Tap, mute: int) -> None:
        self.born = rules.clock()
        self.begun = 0  # from here on it is given input
        self.position = 0  # up to here it was
        self.live_from = 0  # what comes before is given again
        self.is_over = False
        self.is_rotated = False  # its input ended because of its lifetime
        self.watchdog = Watchdog(rules.silence, mute)
        self.abort: Callable[[], object] | None = None
        self._rules = rules
        self._tap = tap
        self._had: list[tuple[int, float]] = []  # up to which position it was given input, and when

    @property
    def is_stuck(self) -> bool:
        """Whether the watchdog has aborted it."""
        return self.watchdog.state is State.STUCK

    def feed(self) -> Iterator[bytes]:
        """Yield the input for the SDK, until the attempt is replaced, or over, or the input ends."""
        rules = self._rules
        while not self.is_rotated and (chunk := self._tap.next(self)) is not None:
            if rules.replay_rate is not None and self.position <= self.live_from:
                self._tap.pause(self, len(chunk) / rules.replay_rate)
            self.watch()
            if rules.lifetime is not None:
                self.is_rotated = self._is_to_be_replaced(chunk, rules.lifetime)
            yield chunk

    def gets(self, chunk: bytes) -> None:
        """Note that it is given a chunk. With the tap's lock held."""
        had, now = self._had, self._rules.clock()
        self.watchdog.given(self.position, now)
        self.position += len(chunk)
        if len(had) > 1 and now - had[-2][1] < 1.0:
            had[-1] = self.position, now  # to the second is enough, and keeps it short
        else:
            had.append((self.position, now))
        while had[0][0] <= self._tap.ring.start:  # settled; the last is not, as it was given just now
            del had[0]

    def had_at(self, position: int) -> float:
        """Return when it had been given what begins at a position; now if it was not yet. With the tap's lock held."""
        return next((at for end, at in self._had if end > position), self._rules.clock())

    def answered(self) -> None:
        """Note a response."""
        with self._tap.lock:
            self.watchdog.answered()

    def watch(self) -> None:
        """Abort it if its answer is overdue. Whether it was given any speech is looked at only then."""
        now = self._rules.clock()
        if now < self.watchdog.due:  # read without the lock: whoever misses a change looks at the next chunk
            return
        with self._tap.lock:
            is_overdue = self.watchdog.look(now, lambda position: self._tap.first_speech(self, position))
        if is_overdue and self.abort is not None:
            self.abort()

    def _is_to_be_replaced(self, chunk: bytes, lifetime: float) -> bool:
        left = lifetime - (self._rules.clock() - self.born)
        is_due = left <= 0 or (left <= lifetime * QUIET_SHARE and self._rules.quiet(chunk))
        # An attempt that was given less than a unit would be followed by one that begins where it began.
        return is_due and self.position - self.begun >= self._rules.unit
