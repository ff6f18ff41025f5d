"""Threads for bridges: a fixed number, counted until they end."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerPool:
    """At most `total` daemon threads at once, one for each bridge.

    asyncio's default executor does not fit: it has few threads (six on two cores), and DNS lookups need them. Nor does
    a ThreadPoolExecutor: its threads are not daemons, so one SDK that never returns keeps the process alive.

    A slot is freed when its thread ends and by nothing else, so the pool counts the threads that really run.
    All methods are thread-safe and never wait.
    """

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError("a pool needs at least one worker")
        self.total = total
        self._lock = threading.Lock()
        self._active = 0
        self._abandoned = 0

    @property
    def active(self) -> int:
        """The number of slots in use, by threads that run and by those that are about to start."""
        return self._active

    @property
    def abandoned(self) -> int:
        """How many of these are used by threads that did not stop in time, and that nobody waits for any more."""
        return self._abandoned

    def try_acquire(self) -> Slot | None:
        """Take a slot; return None at once when none is free."""
        with self._lock:
            if self._active >= self.total:
                return None
            self._active += 1
        return Slot(self)

    def _count(self, *, active: int, abandoned: int) -> None:
        with self._lock:
            self._active += active
            self._abandoned += abandoned


class Slot:
    """The right to run one thread."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._freed = False
        self._abandoned = False

    def run(self, work: Callable[[], None], *, name: str, done: Callable[[], None]) -> None:
        """Run `work` in a new daemon thread, then free the slot, then call `done`; both even if `work` raises.

        Raises RuntimeError, with the slot freed, if the system cannot start a thread.
        """

        def run_and_free() -> None:
            try:
                work()
            finally:
                self._free()
                done()

        self._thread = threading.Thread(target=run_and_free, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._free()
            raise

    def abandon(self) -> str:
        """Count the thread as abandoned until it ends. Returns its stack, as text."""
        with self._lock:
            if not (self._freed or self._abandoned):
                self._abandoned = True
                self._pool._count(active=0, abandoned=1)  # noqa: SLF001 # a slot is a part of its pool
        frame = sys._current_frames().get(self._thread.ident or 0) if self._thread else None  # noqa: SLF001 # its documented name
        return "".join(traceback.format_stack(frame)) if frame else ""

    def _free(self) -> None:
        with self._lock:
            self._freed = True
            self._pool._count(active=-1, abandoned=-self._abandoned)  # noqa: SLF001 # a slot is a part of its pool
