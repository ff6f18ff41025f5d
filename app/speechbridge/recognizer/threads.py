"""The decoding threads, one per core. Jobs for finals come before jobs for partials."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

STUCK_SECONDS = 60.0  # a job takes less than a second, or a few seconds on a busy machine


class Job(Generic[T]):
    """One piece of work. `result` is a future of the event loop that submitted it; cancelling it is safe."""

    def __init__(self, work: Callable[[], T], threads: DecodingThreads) -> None:
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self.loop.create_future()
        self._work = work
        self._threads = threads

    def hurry(self) -> None:
        """Make it urgent, if it has not begun."""
        self._threads.hurry(self)

    def run(self) -> None:
        """Do the work, in this thread, unless its result was cancelled."""
        if self.result.cancelled():  # read without a lock: if it is outdated, the work is done in vain, no more
            return
        try:
            self._deliver(self._work(), None)
        except Exception as error:  # noqa: BLE001 # it is raised where the result is awaited
            self._deliver(None, error)

    def _deliver(self, result: T | None, error: Exception | None) -> None:
        def deliver() -> None:
            if self.result.cancelled():
                return
            if error is not None:
                self.result.set_exception(error)
            else:
                self.result.set_result(result)  # type: ignore[arg-type] # a T, which may itself be None

        self.loop.call_soon_threadsafe(deliver)


class DecodingThreads:
    """A context manager with `count` threads that do jobs: urgent ones first, otherwise in order of submission."""

    def __init__(self, count: int) -> None:
        self._urgent: deque[Job[object]] = deque()
        self._others: deque[Job[object]] = deque()
        self._changed = threading.Condition()
        self._running: dict[Job[object], float] = {}  # the beginning of each running job, by the monotonic clock
        self._is_over = False
        self._threads = [threading.Thread(target=self._run, name=f"decoding-{nth}") for nth in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads. Jobs that have begun are finished, which takes a second at most; the others are dropped."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, work: Callable[[], T], *, urgent: bool = False) -> Job[T]:
        """Submit some work. Call it in a running event loop."""
        job = Job(work, self)
        with self._changed:
            (self._urgent if urgent else self._others).append(job)  # type: ignore[arg-type] # jobs of any type
            self._changed.notify()
        return job

    def hurry(self, job: Job[T]) -> None:
        """Make a job urgent, if it has not begun."""
        with self._changed:
            if job in self._others:
                self._others.remove(job)  # type: ignore[arg-type] # as above
                self._urgent.append(job)  # type: ignore[arg-type]

    async def await_stuck(self, seconds: float = STUCK_SECONDS) -> None:
        """Return when a job has run for `seconds`: its thread hangs in native code, and nothing can end it.

        Cancellation: safe.
        """
        while True:
            now = time.monotonic()
            left = min((begun + seconds - now for begun in tuple(self._running.values())), default=seconds)
            if left <= 0:
                return
            await asyncio.sleep(left)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._running[job] = time.monotonic()
            job.run()
            del self._running[job]

    def _next(self) -> Job[object] | None:
        with self._changed:
            while not (self._urgent or self._others or self._is_over):
                self._changed.wait()
            if self._is_over:
                return None
            return (self._urgent or self._others).popleft()
