"""One thread that calls functions when they are due, shared by all streams of a process.

A thread that is blocked inside an SDK cannot notice that it has been blocked for too long: another thread has to. One
thread for each stream would cost as much as the stream itself, so all streams share one. It runs only while something
is watched.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Watch(Protocol):
    """A function that a timer calls when it is due."""

    def by(self, when: float) -> None:
        """Have the function called no later than at `when`."""

    def stop(self) -> None:
        """Never call the function again. A call that has begun may still go on."""


class Timer(Protocol):
    """A clock that also calls functions when they are due."""

    def time(self) -> float:
        """Return the time in seconds, from any fixed moment on."""

    def watch(self, look: Callable[[], float]) -> Watch:
        """Have `look` called when it is due. It is not due before `by` of the returned watch was called.

        `look` returns when it is due next: math.inf leaves that to `by`. It is called in the timer's thread, must not
        block, and should not raise.
        """


class ThreadTimer:
    """A timer with a daemon thread, which ends when nothing is watched any more. Thread-safe."""

    def __init__(self, name: str = "syncbridge-timer") -> None:
        self._name = name
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, _Watch]] = []  # a heap; entries with another time than their watch are void
        self._numbers = itertools.count()  # so that entries of one time are never compared by their watches
        self._watched = 0
        self._thread: threading.Thread | None = None

    time = staticmethod(time.monotonic)  # called several times for each chunk

    def watch(self, look: Callable[[], float]) -> Watch:
        """Begin to watch. Raises RuntimeError if the system cannot start a thread."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._watched += 1
        return _Watch(self, look)

    def schedule(self, watch: _Watch, when: float) -> None:
        with self._changed:
            if watch.look is not None and when < watch.when:
                watch.when = when
                heapq.heappush(self._queue, (when, next(self._numbers), watch))
                if self._queue[0][2] is watch:
                    self._changed.notify()

    def stop(self, watch: _Watch) -> None:
        with self._changed:
            if watch.look is None:
                return
            watch.look, watch.when = None, math.inf
            self._watched -= 1
            if self._watched == 0:
                self._changed.notify()

    def _run(self) -> None:
        while (look := self._next()) is not None:
            look()

    def _next(self) -> Callable[[], None] | None:
        """Wait until something is due, and return it; return None once nothing is watched."""
        with self._changed:
            while self._watched:
                while self._queue and self._queue[0][0] != self._queue[0][2].when:
                    heapq.heappop(self._queue)
                left = self._queue[0][0] - self.time() if self._queue else math.inf
                if left <= 0:
                    watch = heapq.heappop(self._queue)[2]
                    watch.when = math.inf
                    return watch.run
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            self._queue.clear()
            self._thread = None
            return None


class _Watch:
    """A watch of a `ThreadTimer`. `when` and `look` are guarded by the timer's lock."""

    def __init__(self, timer: ThreadTimer, look: Callable[[], float]) -> None:
        self.when = math.inf
        self.look: Callable[[], float] | None = look
        self._timer = timer

    def by(self, when: float) -> None:
        # `when` is read without the lock. That is harmless: if the timer calls `look` right now, `when` is infinite
        # again, or `look` will still see what the caller changed before this call.
        if when < self.when:
            self._timer.schedule(self, when)

    def stop(self) -> None:
        self._timer.stop(self)

    def run(self) -> None:
        """Call the function, and schedule its next call."""
        look = self.look
        try:
            due = look() if look is not None else math.inf
        except Exception:  # an error in one stream must not leave all others unwatched
            logger.exception("a watched function failed")
        else:
            self.by(due)


TIMER = ThreadTimer()
"""The timer that all streams of the process share."""
