"""One attempt: what it was given and when, when it is to be replaced, and whether it is stuck."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from syncbridge.resumable.watchdog import State, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syncbridge.resumable.rules import Resumption
    from syncbridge.resumable.tap import Tap
    from syncbridge.timer import Watch
    from syncbridge.types import Attempt as AttemptOfSdk

STOP_SECONDS = 5.0  # for an attempt to stop once it is aborted, on a busy machine
LAST_SHARE = 0.1  # of the lifetime, at its end: here an attempt is replaced at the first good moment


class LiveAttempt:
    """An attempt that runs: its connection, and its own iterator over the ring.

    `position`, the times in `had_at` and the watchdog are guarded by the tap's lock. Four threads come here: the worker
    iterates the responses, the SDK's own thread may iterate `feed`, the timer looks, anybody aborts.
    """

    def __init__(self, rules: Resumption[Any], tap: Tap, mute: int, last_words_due: float) -> None:
        self.born = rules.timer.time()
        self.begun = 0  # from here on it is given input
        self.position = 0  # up to here it was
        self.live_from = 0  # what comes before is given again
        self.is_over = False
        self.is_rotated = False  # its input ended because of its lifetime
        self.is_replaced = False  # likewise, but at a final: what it was given since is left to the next attempt
        self.has_ended = False  # its SDK was told the end of its input
        self.is_hung_up_on = False  # all was settled, and it did not end by itself
        self.is_delivering = False  # a response of it waits for its reader
        self.watchdog = Watchdog(rules.silence, rules.answer, mute, last_words_due)
        self._abort: Callable[[], object] | None = None
        self.tell: Callable[[str], object] = lambda _why: None  # that it does not stop though it was aborted, and why
        self._is_to_be_replaced: Callable[[], bool] = lambda: False
        self._rules = rules
        self._tap = tap
        self._watch: Watch | None = None
        self._had: list[tuple[int, float]] = []  # up to which position it was given input, and when
        self._hang_up_at = math.inf  # when to look whether all is settled, although it does not end
        self._stops_by = math.inf  # when it must have stopped, as it was aborted

    @property
    def is_stuck(self) -> bool:
        """Whether the watchdog has aborted it."""
        return self.watchdog.state is State.STUCK

    # ---- its life ----------------------------------------------------------------------------------------------------

    def connects(self) -> None:
        """Note that it connects now. From here on it is watched."""
        rules = self._rules
        self.born = rules.timer.time()
        if any(limit is not None for limit in (rules.silence, rules.answer, rules.linger)):
            self._watch = rules.timer.watch(self._look)
            self._watch_by_due()

    def runs(self, connection: AttemptOfSdk[bytes, Any]) -> None:
        """Set what wakes its SDK, and what says that it is to be replaced."""
        self._abort = connection.abort
        self._is_to_be_replaced = connection.is_to_be_replaced

    def abort(self) -> None:
        """Wake its SDK, if there is one yet, and a way to."""
        if self._abort is not None:
            self._abort()

    def answered(self) -> None:
        """Note a response."""
        with self._tap.lock:
            now = self._rules.timer.time()
            is_expected_to_end = self.has_ended and not self.is_rotated
            if is_expected_to_end:
                self._expect_the_end(now)
            if self.watchdog.answered(self._tap.ring.start, now) or is_expected_to_end:
                self._watch_by_due()

    def settled(self) -> None:
        """Note that a response settled more."""
        with self._tap.lock:
            self.watchdog.settled(self._rules.timer.time())

    def may_be_replaced(self) -> bool:
        """Tell whether it is replaced at a final: its SDK asks for that, or its last moments have come."""
        return (
            not self.has_ended
            and self._tap.ring.start > self.begun  # or the next would begin where this one began
            and (self._is_near_its_end() or self._is_to_be_replaced())
        )

    def _is_near_its_end(self) -> bool:
        lifetime = self._rules.lifetime
        return (
            lifetime is not None
            and (self._rules.quiet is None or self._rules.finals_first)
            and self._left(lifetime) <= lifetime * LAST_SHARE
        )

    def end(self) -> None:
        """End its wait for input, for good, and watch it no more."""
        self._tap.end(self)
        if self._watch is not None:
            self._watch.stop()

    # ---- its input ---------------------------------------------------------------------------------------------------

    def feed(self) -> Iterator[bytes]:
        """Yield the input for the SDK, until the attempt is replaced, or over, or the input ends."""
        rules = self._rules
        while not self.is_rotated and (chunk := self._tap.next(self)) is not None:
            if rules.lifetime is not None:
                chunk = self._up_to_rotation(chunk, rules.lifetime)
            yield chunk
            if rules.replay_rate is not None and self.position <= self.live_from:
                self._tap.pause(self, len(chunk) / rules.replay_rate)
        with self._tap.lock:
            if not self.is_over:
                self.has_ended = True
                now = rules.timer.time()
                self.watchdog.ended(self._tap.ring.start, now, another_follows=self.is_rotated)
                if not self.is_rotated:
                    self._expect_the_end(now)
                self._watch_by_due()

    def gets(self, chunk: bytes) -> None:
        """Note that it is given a chunk. With the tap's lock held."""
        had, now = self._had, self._rules.timer.time()
        if self.watchdog.given(self.position, now) and self._watch is not None:
            self._watch.by(now + self.watchdog.silence)
        self.position += len(chunk)
        if len(had) > 1 and now - had[-2][1] < 1.0:
            had[-1] = self.position, now  # to the second is enough, and keeps it short
        else:
            had.append((self.position, now))
        while had[0][0] <= self._tap.ring.start:  # settled; the last is not, as it was given just now
            del had[0]

    def waits_for_room(self) -> None:
        """Note that it gets no input before some is settled. With the tap's lock held."""
        if self.watchdog.no_room(self._tap.ring.start, self._rules.timer.time()):
            self._watch_by_due()

    def had_at(self, position: int) -> float:
        """Return when it had been given what begins at a position; now if it was not yet. With the tap's lock held."""
        return next((at for end, at in self._had if end > position), self._rules.timer.time())

    def _up_to_rotation(self, chunk: bytes, lifetime: float) -> bytes:
        """Decide whether this chunk is the last. Returns what is to be given of it: the rest is left to the next."""
        left = self._left(lifetime)
        share = LAST_SHARE / 2 if self._rules.finals_first else LAST_SHARE
        # An attempt that was given less than a unit would be followed by one that begins where it began.
        if left > lifetime * share or self.position - self.begun < self._rules.unit:
            return chunk
        size = self._quiet_place(chunk)
        self.is_rotated = size > 0 or left <= 0
        if size > 0:
            with self._tap.lock:
                self.position -= len(chunk) - size
            return chunk[:size]
        return chunk

    def _quiet_place(self, chunk: bytes) -> int:
        """Return how much of a chunk comes before the middle of a quiet moment, or its end; 0 if there is none."""
        quiet, window, unit = self._rules.quiet, self._rules.window, self._rules.unit
        if quiet is None:
            return 0
        if not window:
            return len(chunk) if quiet(chunk) else 0
        begin = self.position - len(chunk)
        for stop in range(self.position, begin, -max(unit, window // 3)):
            with self._tap.lock:
                heard = self._tap.last(stop, window)
            if len(heard) == window and quiet(heard):
                middle = stop - window // 2
                return (middle if middle - self.begun >= unit and middle > begin else stop) - begin
        return 0

    def _left(self, lifetime: float) -> float:
        return lifetime - (self._rules.timer.time() - self.born)

    # ---- the timer's side --------------------------------------------------------------------------------------------

    def _watch_by_due(self) -> None:
        if self._watch is not None:
            self._watch.by(self._due)

    @property
    def _due(self) -> float:
        return self._stops_by if self._stops_by < math.inf else min(self.watchdog.due, self._hang_up_at)

    def _expect_the_end(self, now: float) -> None:
        if self._rules.linger is not None:
            self._hang_up_at = now + self._rules.linger

    def _look(self) -> float:
        """Abort it if it is stuck. Returns when to look again."""
        with self._tap.lock:
            if self.is_over:
                return math.inf
            now = self._rules.timer.time()
            if self.is_delivering:
                self._postpone(now)
                return self._due
            is_aborted = self._stops_by < math.inf
            if is_aborted and now < self._stops_by:
                return self._due
            if not is_aborted and not self._is_to_be_aborted(now):
                return self._due
            self._stops_by = now + STOP_SECONDS
        if is_aborted:
            self.tell(self.watchdog.why)
            return math.inf
        self.abort()  # without the lock: it may do anything, also end the feed
        return self._stops_by

    def _postpone(self, now: float) -> None:
        self.watchdog.postpone(now)
        if self._hang_up_at < math.inf:
            self._expect_the_end(now)
        if self._stops_by < math.inf:
            self._stops_by = now + STOP_SECONDS

    def _is_to_be_aborted(self, now: float) -> bool:
        if now >= self._hang_up_at:
            self._hang_up_at = math.inf  # the next response sets it again
            self.is_hung_up_on = self._tap.is_settled()
        return self.is_hung_up_on or self.watchdog.look(now, self._first_speech)

    def _first_speech(self, position: int) -> float | None:
        return self._tap.first_speech(self, position)
