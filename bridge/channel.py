"""A bounded queue with a foot on either side: the event loop's and one thread's. The only import of janus.

janus does the hard part. What is added here is what its users must otherwise know: which shutdown who may call, that a
consumer can starve its loop, and that the loop may be gone. And the loop's waits are our own: janus wakes a waiting
coroutine by way of a task and a condition, two more turns of the loop for each item.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

import janus
from janus import AsyncQueueShutDown, SyncQueueShutDown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AsyncQueueShutDown", "Channel", "SyncQueueShutDown"]

T = TypeVar("T")

BREATH = 16  # items between two visits to the loop: a guess, about 0.5 ms of work
TIMED = 16  # of so many items one is timed: two clock calls then, two comparisons otherwise


class _MeasuredQueue(janus.Queue[T]):
    entered = 0
    peak = 0
    timed = 0  # the number of the item whose wait is measured: set by the putter while it is 0, cleared by the getter
    put_at = 0.0

    def _put(self, item: T) -> None:  # called by janus with its lock held
        super()._put(item)
        self.entered += 1
        self.peak = max(self.peak, self._qsize())
        if self.entered % TIMED == 0 and not self.timed:
            self.put_at, self.timed = time.perf_counter(), self.entered


class Channel(Generic[T]):
    """A FIFO of at most `room` items, used in one direction.

    The loop's face is `send` and `receive`, the thread's `put` and `get`; a channel uses one of each. `finish` is
    the natural end, called by the putting side: what is in the queue still comes out. `cut` is the abrupt one,
    callable by anybody from any thread: the queue is emptied and every wait on either side ends at once.

    After either end, the thread's face raises SyncQueueShutDown and the loop's AsyncQueueShutDown.

    `waited` is told how many seconds an item was in the queue, of one item in `TIMED`, by the side that took it.
    """

    def __init__(self, room: int, waited: Callable[[float], object] | None = None) -> None:
        self._queue: _MeasuredQueue[T] = _MeasuredQueue(room)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = asyncio.Event()
        self._breath = 0
        self._waited = waited
        self.awaited = False  # the loop waits, so the other side must ring
        self.left = 0  # items taken out; only the getting side counts, so a plain integer is exact

    @property
    def entered(self) -> int:
        """Items put in."""
        return self._queue.entered

    @property
    def depth(self) -> int:
        return self._queue.async_q.qsize()

    @property
    def peak(self) -> int:
        """The greatest depth there was."""
        return self._queue.peak

    async def send(self, item: T) -> None:
        """Put from the loop, waiting for room. Cancellation: the item was not put."""
        queue = self._queue.async_q
        await self._wait_while(queue.full)
        queue.put_nowait(item)

    async def receive(self) -> T:
        """Get on the loop, waiting for an item. Cancellation: no item was taken."""
        queue = self._queue.async_q
        await self._wait_while(queue.empty)
        item = queue.get_nowait()
        self._count()
        return item

    async def _wait_while(self, stuck: Callable[[], bool]) -> None:
        """Wait while the queue is stuck and not shut. What is so after it stays so until the next `await`.

        A change that comes before `awaited` is set is not rung for, but it comes before the look at the queue, too.
        """
        self._breath += 1
        if self._breath % BREATH == 0:  # nothing else lets the loop run while there is room, or an item
            await asyncio.sleep(0)
        while stuck() and not self._queue.closed:
            self._breath = 0
            self._loop = asyncio.get_running_loop()
            self._bell.clear()
            self.awaited = True
            if stuck() and not self._queue.closed:
                await self._bell.wait()

    def put(self, item: T) -> None:
        """Put from the thread, waiting for room."""
        self._queue.sync_q.put(item)
        self._ring()

    def get(self) -> T:
        """Get in the thread, waiting for an item."""
        item = self._queue.sync_q.get()
        self._count()
        self._ring()
        return item

    def qsize(self) -> int:
        return self._queue.sync_q.qsize()

    def _count(self) -> None:
        self.left += 1
        if self.left == self._queue.timed:
            if self._waited is not None:
                self._waited(time.perf_counter() - self._queue.put_at)
            self._queue.timed = 0

    def _ring(self) -> None:
        """Wake the loop if it waits. From any thread. Two may ring for one wait: once too often, and no harm."""
        if self.awaited and self._loop is not None:
            self.awaited = False
            with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                self._loop.call_soon_threadsafe(self._bell.set)

    def finish(self) -> None:
        """End after what is in the queue. For the putting side, after its last put: one still waiting is refused."""
        self._shutdown(immediate=False)

    def cut(self) -> None:
        """End now and drop what is in the queue."""
        self._shutdown(immediate=True)

    def _shutdown(self, *, immediate: bool) -> None:
        self._queue.shutdown(immediate)
        self._ring()
