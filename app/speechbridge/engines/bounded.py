"""A bound on the last words of a stream that has one connection only."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from syncbridge import Stuck
from syncbridge.start import close, started
from syncbridge.timer import TIMER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.engines import Upstream
    from syncbridge import Timer, Watch


GRACE = 1.0  # seconds for an SDK to stop when it is aborted, as in a bridge


def bounded(upstream: Upstream, seconds: float, timer: Timer = TIMER) -> Upstream:
    """Abort a stream that gives no response for so many seconds once its input has ended. It raises Stuck then.

    If it does not even stop then, as nothing wakes its SDK, what was given to `on_stuck` is called.
    """
    bound = _Bound(upstream, seconds, timer)
    return replace(upstream, start=bound.start, on_stuck=bound.on_stuck)


class _Bound:
    def __init__(self, upstream: Upstream, seconds: float, timer: Timer) -> None:
        self._upstream = upstream
        self._seconds = seconds
        self._timer = timer
        self._lock = threading.Lock()  # guards the next four
        self._has_ended = False  # the input
        self._is_delivering = False  # a response waits for its reader
        self._is_stuck = False
        self._due = math.inf
        self._watch: Watch | None = None
        self._tell: Callable[[str], object] = lambda _why: None

    def on_stuck(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        self._watch = self._timer.watch(self._look)
        try:
            yield from self._responses(audio)
        except Exception as error:
            if self._is_stuck:  # what the SDK makes of the abort is its own affair
                raise Stuck(self._why) from error
            raise
        finally:
            self._watch.stop()
        if self._is_stuck:
            raise Stuck(self._why)

    @property
    def _why(self) -> str:
        return f"the input ended, and for {self._seconds:g} s nothing new came"

    def _responses(self, audio: Iterator[bytes]) -> Iterator[str]:
        responses = started(self._upstream.start, self._feed(audio))
        try:
            for response in responses:
                self._is_delivering = True
                yield response
                self._is_delivering = False
                if self._has_ended:
                    self._postpone()
        finally:
            close(responses)

    def _feed(self, audio: Iterator[bytes]) -> Iterator[bytes]:
        yield from audio
        self._has_ended = True
        self._postpone()

    def _postpone(self) -> None:
        with self._lock:
            self._due = self._timer.time() + self._seconds
        if self._watch is not None:
            self._watch.by(self._due)

    def _look(self) -> float:
        if self._is_stuck:
            self._tell(self._why)
            return math.inf
        with self._lock:
            now = self._timer.time()
            if self._is_delivering:
                self._due = now + self._seconds
            if now < self._due:
                return self._due
            self._is_stuck = True
        if self._upstream.abort is not None:
            self._upstream.abort()
        return now + GRACE
