"""Threads for decoding: one a core. What ends an utterance is done before what only shows how it goes on."""

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

STUCK_SECONDS = 60.0  # a job takes less than a second, and a few where many wait for the processor


class Job(Generic[T]):
    """One piece of work. `result` is a future of the event loop that asked for it; cancelling it is safe."""

    def __init__(self, work: Callable[[], T], threads: DecodingThreads) -> None:
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self.loop.create_future()
        self._work = work
        self._threads = threads

    def hurry(self) -> None:
        """Make it urgent, if it has not begun."""
        self._threads.hurry(self)

    def run(self) -> None:
        """Do the work, in this thread. Nothing is done for a result that was cancelled."""
        if self.result.cancelled():  # a stale answer costs some work for nobody, no more
            return
        try:
            self._tell(self._work(), None)
        except Exception as error:  # noqa: BLE001 # it is raised where the result is awaited
            self._tell(None, error)

    def _tell(self, result: T | None, error: Exception | None) -> None:
        def tell() -> None:
            if self.result.cancelled():
                return
            if error is not None:
                self.result.set_exception(error)
            else:
                self.result.set_result(result)  # type: ignore[arg-type] # of a T that may itself be None

        self.loop.call_soon_threadsafe(tell)


class DecodingThreads:
    """A context in which `count` threads do jobs: the urgent ones first, and each kind in the order it came."""

    def __init__(self, count: int) -> None:
        self._urgent: deque[Job[object]] = deque()
        self._others: deque[Job[object]] = deque()
        self._changed = threading.Condition()
        self._running: dict[Job[object], float] = {}  # and when they began, by the monotonic clock
        self._is_over = False
        self._threads = [threading.Thread(target=self._run, name=f"decoding-{nth}") for nth in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads. What has begun is finished, which takes a second at most; the rest is left undone."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, work: Callable[[], T], *, urgent: bool = False) -> Job[T]:
        """Have some work done. To be called in an event loop."""
        job = Job(work, self)
        with self._changed:
            (self._urgent if urgent else self._others).append(job)  # type: ignore[arg-type] # its result is its own
            self._changed.notify()
        return job

    def hurry(self, job: Job[T]) -> None:
        """Make a job urgent, if it has not begun."""
        with self._changed:
            if job in self._others:
                self._others.remove(job)  # type: ignore[arg-type] # as above
                self._urgent.append(job)  # type: ignore[arg-type]

    async def await_stuck(self, seconds: float = STUCK_SECONDS) -> None:
        """Return when a job has run for so long: its thread hangs in native code, and nothing can end it.

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
