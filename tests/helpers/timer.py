"""A timer whose time a test advances."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ManualTimer:
    """`advance` calls the watches that are due, in the calling thread."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()
        self._watches: set[_ManualWatch] = set()

    def time(self) -> float:
        return self.now

    def watch(self, look: Callable[[], float]) -> _ManualWatch:
        watch = _ManualWatch(self, look)
        with self._lock:
            self._watches.add(watch)
        return watch

    def forget(self, watch: _ManualWatch) -> None:
        with self._lock:
            self._watches.discard(watch)

    @property
    def watched(self) -> int:
        return len(self._watches)

    def next_due(self) -> float:
        with self._lock:
            return min((watch.when for watch in self._watches), default=math.inf)

    def advance(self, seconds: float) -> None:
        """Advance the time, and stop at each moment at which a watch is due."""
        end = self.now + seconds
        while True:
            with self._lock:
                due = min(self._watches, key=lambda watch: watch.when, default=None)
            if due is None or due.when > end:
                break
            self.now = max(self.now, due.when)
            due.when = math.inf
            due.by(due.look())
        self.now = end

    def seconds(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks, and advance the time by a second before each."""
        for chunk in chunks:
            self.advance(1)
            yield chunk


class _ManualWatch:
    def __init__(self, timer: ManualTimer, look: Callable[[], float]) -> None:
        self.when = math.inf
        self.look = look
        self._timer = timer

    def by(self, when: float) -> None:
        self.when = min(self.when, when)

    def stop(self) -> None:
        self._timer.forget(self)
