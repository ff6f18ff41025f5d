"""A time limit for the last responses of an SDK whose streams cannot be resumed."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Generic

from syncbridge.errors import Stuck
from syncbridge.resumable.watchdog import Watchdog
from syncbridge.start import close, started
from syncbridge.timer import TIMER
from syncbridge.types import In, Out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syncbridge.timer import Timer, Watch
    from syncbridge.types import Attempt

STOP_SECONDS = 1.0  # for an SDK to stop once it is aborted; after that `on_stuck`'s callback is called


class Bounded(Generic[In, Out]):
    """A start function whose SDK is aborted if, after the end of its input, it gives no response for `seconds`.

        bounded = Bounded(Attempt(sdk, abort), 30.0)
        async with Bridge(bounded, abort=abort) as bridge:
            ...

    It then raises Stuck, whatever the SDK itself raises when it is aborted. It can be called once.
    """

    def __init__(self, attempt: Attempt[In, Out], seconds: float, timer: Timer = TIMER) -> None:
        self._attempt = attempt
        self._timer = timer
        self._lock = threading.Lock()  # guards the next four
        self._watchdog = Watchdog(None, seconds)
        self._is_delivering = False  # the reader has not taken the latest response yet
        self._stops_by = math.inf  # finite once the SDK was aborted: the time by which it must have stopped
        self._watch: Watch | None = None
        self._report: Callable[[str], object] = lambda _why: None

    def on_stuck(self, report: Callable[[str], object]) -> None:
        """Have `report` called, from another thread, with the reason, if the SDK was aborted and does not stop."""
        self._report = report

    def __call__(self, feed: Iterator[In]) -> Iterator[Out]:
        """Yield the SDK's responses."""
        self._watch = self._timer.watch(self._look)
        try:
            yield from self._responses(feed)
        except Exception as error:
            if self._is_stuck:  # the SDK's error is a consequence of the abort
                raise Stuck(self._watchdog.why) from error
            raise
        finally:
            self._watch.stop()
        if self._is_stuck:
            raise Stuck(self._watchdog.why)

    @property
    def _is_stuck(self) -> bool:
        return self._stops_by < math.inf

    def _responses(self, feed: Iterator[In]) -> Iterator[Out]:
        responses = started(self._attempt.start, self._feed(feed))
        try:
            for response in responses:
                self._is_delivering = True
                yield response
                self._is_delivering = False
                with self._lock:
                    self._watchdog.settled(self._timer.time())  # any response counts: none says what it settles
        finally:
            close(responses)

    def _feed(self, feed: Iterator[In]) -> Iterator[In]:
        yield from feed
        with self._lock:
            self._watchdog.ended(0, self._timer.time())
            due = self._watchdog.due
        if self._watch is not None:
            self._watch.by(due)

    def _look(self) -> float:
        with self._lock:
            now, is_aborted = self._timer.time(), self._is_stuck
            if self._is_delivering:
                self._watchdog.postpone(now)
                self._stops_by = now + STOP_SECONDS if is_aborted else math.inf
            if is_aborted and now < self._stops_by:
                return self._stops_by
            if not is_aborted and not self._watchdog.look(now, lambda _position: None):
                return self._watchdog.due
            self._stops_by = now + STOP_SECONDS
        if is_aborted:
            self._report(self._watchdog.why)
            return math.inf
        if self._attempt.abort is not None:
            self._attempt.abort()
        return self._stops_by
