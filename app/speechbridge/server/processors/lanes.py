"""Threads for calls that may block, or never come back: few while all is well, never more than a number.

Neither of the ready-made pools will do. asyncio's default one has six threads here, and DNS waits in it. The threads of
ThreadPoolExecutor and of anyio are no daemons: one call that never returns keeps the process from exiting.
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
    """What one thread has to do: the work, then what that returns, once the lane is idle again; None ends it."""


class Lanes:
    """At most `total` daemon threads, each with one call at a time. Idle ones are used again."""

    def __init__(self, total: int) -> None:
        self.pool = WorkerPool(total)
        self._idle: list[_Lane] = []  # shared by the loop and the lanes; append and pop are atomic
        self._closed = False

    def run(self, function: Callable[[], T]) -> asyncio.Future[T] | None:
        """Begin a call, in the caller's context; None at once when every thread is taken.

        Cancellation of the future: the call goes on, and nobody is told how it ended.
        """
        lane = self._idle.pop() if self._idle else self._open()
        if lane is None:
            return None
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        result: asyncio.Future[T] = loop.create_future()
        result.add_done_callback(_look)

        def work() -> Callable[[], object]:
            try:
                settle = partial(_settle, result, context.run(function))
            except BaseException as error:  # noqa: BLE001 # the caller's to see, not the thread's
                settle = partial(_fail, result, error)

            def call_home() -> None:
                with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is left to be told
                    loop.call_soon_threadsafe(settle)

            return call_home

        lane.put(work)
        return result

    def close(self) -> None:
        """End the threads that are idle, and each other one when its call has come back. Never waits."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _open(self) -> _Lane | None:
        slot = self.pool.try_acquire()
        if slot is None:
            return None
        lane = _Lane()
        try:
            slot.run(partial(self._live, lane), name="processor", done=lambda: None)
        except RuntimeError:  # the system has no thread to give
            return None
        return lane

    def _live(self, lane: _Lane) -> None:
        while (work := lane.get()) is not None:
            call_home = work()
            self._idle.append(lane)
            if self._closed:  # close() may have looked already
                lane.put(None)
            call_home()


def _settle(result: asyncio.Future[T], value: T) -> None:
    if not result.done():
        result.set_result(value)


def _fail(result: asyncio.Future[T], error: BaseException) -> None:
    if not result.done():
        # A StopIteration would pass for its awaiter's own end, a SystemExit for the loop's.
        fits = isinstance(error, Exception) and not isinstance(error, StopIteration)
        result.set_exception(error if fits else RuntimeError(type(error).__name__))


def _look(result: asyncio.Future[T]) -> None:
    """Take notice of an error that nobody waits for any more; asyncio would log its text."""
    if not result.cancelled():
        result.exception()
