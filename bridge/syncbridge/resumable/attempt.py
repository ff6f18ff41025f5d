"""One attempt: which input it was given and when, when it is replaced, and when it is aborted."""

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
LAST_SHARE = 0.1  # in this last share of its lifetime an attempt is replaced at the first opportunity


class LiveAttempt:
    """A running attempt: its connection, and its own iterator over the ring.

    Several threads use it: the worker iterates the responses, a thread of the SDK may iterate `feed`, the timer calls
    `_look`, and any thread may call `abort`. The tap's lock guards `position`, `_had` and the watchdog.
    """

    def __init__(self, rules: Resumption[Any], tap: Tap, mute: int, last_words_due: float) -> None:
        self.born = rules.timer.time()
        self.begun = 0  # the position where its input begins
        self.position = 0  # the position up to which it was given input
        self.live_from = 0  # input before this position is replayed
        self.is_over = False
        self.is_rotated = False  # its input ended because of its lifetime
        self.is_replaced = False  # it ended at a final; input that it was given since is left to the next attempt
        self.has_ended = False  # its SDK was given the end of its input
        self.is_aborted_as_complete = False  # all input was settled, and it did not end by itself
        self.is_delivering = False  # the reader has not taken its latest response yet
        self.watchdog = Watchdog(rules.silence, rules.answer, mute, last_words_due)
        self._abort: Callable[[], object] | None = None
        self.report: Callable[[str], object] = lambda _why: None  # called if it was aborted and does not stop
        self._is_to_be_replaced: Callable[[], bool] = lambda: False
        self._rules = rules
        self._tap = tap
        self._watch: Watch | None = None
        self._had: list[tuple[int, float]] = []  # positions up to which it was given input, each with the time
        self._lingers_until = math.inf  # the time to check whether all is settled, although it does not end
        self._stops_by = math.inf  # finite once it was aborted: the time by which it must have stopped

    @property
    def is_stuck(self) -> bool:
        """Whether the watchdog has aborted it."""
        return self.watchdog.state is State.STUCK

    # ---- the worker's side -------------------------------------------------------------------------------------------

    def start_watch(self) -> None:
        """Note that it begins to connect, and have the timer watch it from now on."""
        rules = self._rules
        self.born = rules.timer.time()
        if any(limit is not None for limit in (rules.silence, rules.answer, rules.linger)):
            self._watch = rules.timer.watch(self._look)
            self._watch_by_due()

    def attach(self, connection: AttemptOfSdk[bytes, Any]) -> None:
        """Take the connection's `abort` and `is_to_be_replaced`."""
        self._abort = connection.abort
        self._is_to_be_replaced = connection.is_to_be_replaced

    def abort(self) -> None:
        """Abort its SDK, if it runs already and has an `abort`."""
        if self._abort is not None:
            self._abort()

    def answered(self) -> None:
        """Note a response."""
        with self._tap.lock:
            now = self._rules.timer.time()
            is_expected_to_end = self.has_ended and not self.is_rotated
            if is_expected_to_end:
                self._start_lingering(now)
            if self.watchdog.answered(self._tap.ring.start, now) or is_expected_to_end:
                self._watch_by_due()

    def settled(self) -> None:
        """Note that a response settled more input."""
        with self._tap.lock:
            self.watchdog.settled(self._rules.timer.time())

    def may_be_replaced(self) -> bool:
        """Tell whether it is replaced at this final: its SDK asks for that, or its lifetime is nearly over."""
        return (
            not self.has_ended
            and self._tap.ring.start > self.begun  # otherwise the next would begin where this one began
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
        """End its input, and stop watching it."""
        self._tap.end(self)
        if self._watch is not None:
            self._watch.stop()

    # ---- the input ---------------------------------------------------------------------------------------------------

    def feed(self) -> Iterator[bytes]:
        """Yield the input for the SDK, until the attempt is rotated, or over, or the input ends."""
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
                    self._start_lingering(now)
                self._watch_by_due()

    def note_input(self, chunk: bytes) -> None:
        """Note that it is given a chunk. With the tap's lock held."""
        had, now = self._had, self._rules.timer.time()
        if self.watchdog.given(self.position, now) and self._watch is not None:
            self._watch.by(now + self.watchdog.silence)
        self.position += len(chunk)
        if len(had) > 1 and now - had[-2][1] < 1.0:
            had[-1] = self.position, now  # a precision of one second is enough, and keeps the list short
        else:
            had.append((self.position, now))
        while had[0][0] <= self._tap.ring.start:  # settled; this ends, because the latest entry cannot be settled yet
            del had[0]

    def waits_for_room(self) -> None:
        """Note that it gets no more input until some is settled. With the tap's lock held."""
        if self.watchdog.no_room(self._tap.ring.start, self._rules.timer.time()):
            self._watch_by_due()

    def had_at(self, position: int) -> float:
        """Return when it was given the input at a position; the time now if it was not. With the tap's lock held."""
        return next((at for end, at in self._had if end > position), self._rules.timer.time())

    def _up_to_rotation(self, chunk: bytes, lifetime: float) -> bytes:
        """Decide whether this chunk is the last. Returns the part to give; the rest is left to the next attempt."""
        left = self._left(lifetime)
        share = LAST_SHARE / 2 if self._rules.finals_first else LAST_SHARE
        # If an attempt was given less than a unit, the next one would begin at the same position.
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
        """Return how many bytes of a chunk come before the middle of a pause, or before its end; 0 without a pause."""
        quiet, window, unit = self._rules.quiet, self._rules.window, self._rules.unit
        if quiet is None:
            return 0
        if not window:
            return len(chunk) if quiet(chunk) else 0
        begin = self.position - len(chunk)
        for stop in range(self.position, begin, -max(unit, window // 3)):
            with self._tap.lock:
                recent = self._tap.last(stop, window)
            if len(recent) == window and quiet(recent):
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
        return self._stops_by if self._stops_by < math.inf else min(self.watchdog.due, self._lingers_until)

    def _start_lingering(self, now: float) -> None:
        if self._rules.linger is not None:
            self._lingers_until = now + self._rules.linger

    def _look(self) -> float:
        """Abort it if it is stuck, or complete. Returns when to look again."""
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
            self.report(self.watchdog.why)
            return math.inf
        self.abort()  # without the lock: the SDK's abort may do anything, even end the feed
        return self._stops_by

    def _postpone(self, now: float) -> None:
        self.watchdog.postpone(now)
        if self._lingers_until < math.inf:
            self._start_lingering(now)
        if self._stops_by < math.inf:
            self._stops_by = now + STOP_SECONDS

    def _is_to_be_aborted(self, now: float) -> bool:
        if now >= self._lingers_until:
            self._lingers_until = math.inf  # the next response sets it again
            self.is_aborted_as_complete = self._tap.is_settled()
        return self.is_aborted_as_complete or self.watchdog.look(now, self._first_speech)

    def _first_speech(self, position: int) -> float | None:
        return self._tap.first_speech(self, position)
