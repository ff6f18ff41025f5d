"""A thread pool for calls that may block, or never return. Idle threads are reused, and their number is limited.

No ready-made pool fits. asyncio's default pool has six threads on two cores, and DNS lookups need them. The threads of
ThreadPoolExecutor and of anyio are not daemons: one call that never returns would keep the process from exiting.
"""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from syncbridge import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Lane(SimpleQueue["Callable[[], Callable[[], object]] | None"]):
    """The calls for one thread. Each returns a function, which is called once the thread is idle. None ends it."""


class Lanes:
    """At most `total` daemon threads, each with one call at a time. Idle threads are reused."""

    def __init__(self, total: int) -> None:
        self.pool = WorkerPool(total)
        self._idle: list[_Lane] = []  # shared by the loop and the lanes; append and pop are atomic
        self._closed = False

    def run(self, function: Callable[[], T]) -> asyncio.Future[T] | None:
        """Begin a call, in the caller's context; return None at once if all threads are busy.

        Cancellation of the future: the call goes on, and its result is dropped.
        """
        lane = self._idle.pop() if self._idle else self._open()
        if lane is None:
            return None
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        result: asyncio.Future[T] = loop.create_future()
        result.add_done_callback(_retrieve_error)

        def work() -> Callable[[], object]:
            try:
                settle = partial(_settle, result, context.run(function))
            except BaseException as error:  # noqa: BLE001 # the caller gets it
                settle = partial(_fail, result, error)

            def report() -> None:
                with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits for the result
                    loop.call_soon_threadsafe(settle)

            return report

        lane.put(work)
        return result

    def close(self) -> None:
        """End idle threads now, and each busy one when its call has returned. Never waits."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _open(self) -> _Lane | None:
        slot = self.pool.try_acquire()
        if slot is None:
            return None
        lane = _Lane()
        try:
            slot.run(partial(self._run, lane), name="processor", done=lambda: None)
        except RuntimeError:  # the system cannot start another thread
            return None
        return lane

    def _run(self, lane: _Lane) -> None:
        while (work := lane.get()) is not None:
            report = work()
            self._idle.append(lane)
            if self._closed:  # close() may have emptied `_idle` before this lane was appended
                lane.put(None)
            report()


def _settle(result: asyncio.Future[T], value: T) -> None:
    if not result.done():
        result.set_result(value)


def _fail(result: asyncio.Future[T], error: BaseException) -> None:
    if not result.done():
        # StopIteration would end an iteration of the task that waits, and SystemExit would end the event loop.
        fits = isinstance(error, Exception) and not isinstance(error, StopIteration)
        result.set_exception(error if fits else RuntimeError(type(error).__name__))


def _retrieve_error(result: asyncio.Future[T]) -> None:
    """Mark an error as retrieved even if nobody waits for it any more; otherwise asyncio logs its text."""
    if not result.cancelled():
        result.exception()
