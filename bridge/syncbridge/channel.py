"""A bounded queue with a foot on either side: the event loop's and one thread's. The only import of janus.

janus does the hard part. What is added here is what its users must otherwise know: which shutdown who may call, that a
consumer can starve its loop, and that the loop may be gone. Both waits for an item are our own, too, and the loop's for
room: janus wakes a coroutine by way of a task and a condition, two more turns of the loop for each item, and it wakes a
thread for every one of many small items that could be taken together.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import janus
from janus import AsyncQueueShutDown, SyncQueueShutDown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AsyncQueueShutDown", "Channel", "SyncQueueShutDown"]

T = TypeVar("T")

YIELD_EVERY = 16  # items between two visits to the loop: a guess, about 0.5 ms of work
TIMED = 16  # of so many items one is timed: two clock calls then, two comparisons otherwise

# What janus keeps for coroutines that wait in it, and for whoever waits for tasks to be done: most of a queue's memory.
# Nobody does.
UNUSED = (
    "_async_mutex",
    "_async_not_empty",
    "_async_not_full",
    "_async_tasks_done",
    "_pending",
    "_sync_tasks_done",
)


class _MeasuredQueue(janus.Queue[T]):
    __slots__ = ("entered", "items", "peak", "put_at", "timed")

    def __init__(self, room: int) -> None:
        super().__init__(room)
        for name in UNUSED:
            setattr(self, name, None)
        self.entered = 0
        self.peak = 0
        self.timed = 0  # the number of the item whose wait is measured: set by the putter, cleared by the getter
        self.put_at = 0.0

    # Called by janus with its lock held, a dozen times an item, so two of these are the list's own.

    def _init(self, maxsize: int) -> None:  # noqa: ARG002 # janus' form; it looks after the size itself
        self.items: list[T] = []  # a deque takes more memory than all that is ever in it
        self._qsize = self.items.__len__  # type: ignore[method-assign]
        self._get = partial(self.items.pop, 0)  # type: ignore[method-assign]

    def _put(self, item: T) -> None:
        self.items.append(item)
        self.entered += 1
        self.peak = max(self.peak, len(self.items))
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
        self._room = room
        self._queue: _MeasuredQueue[T] = _MeasuredQueue(room)
        self._sync, self._async = self._queue.sync_q, self._queue.async_q
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: asyncio.Future[None] | None = None  # the loop's own: nobody else touches it
        self._breath = 0
        self._waited = waited
        self.awaited = False  # the loop waits, so the other side must ring
        self._gong = threading.Lock()  # what the thread waits for, by acquiring it: whoever wakes it releases it
        self._gong.acquire()
        self._lingering: asyncio.TimerHandle | None = None
        self._is_over = False
        self.thread_waiting = False  # the thread waits for an item, so the other side must wake it
        self.left = 0  # items taken out; only the getting side counts, so a plain integer is exact

    @property
    def entered(self) -> int:
        """Items put in."""
        return self._queue.entered

    @property
    def depth(self) -> int:
        return len(self._queue.items)

    @property
    def peak(self) -> int:
        """The greatest depth there was."""
        return self._queue.peak

    async def send(self, item: T, linger: float = 0.0) -> None:
        """Put from the loop, waiting for room. Cancellation: the item was not put.

        A thread that waits is woken `linger` seconds after the first item that lingers, or when one finds no room.
        """
        if self._is_full():
            self.wake()
            await self._wait_while(self._is_full)
        elif self._is_out_of_breath():
            await asyncio.sleep(0)
        self._async.put_nowait(item)
        if self.thread_waiting:
            if linger <= 0:
                self.wake()
            elif self._lingering is None:
                self._lingering = asyncio.get_running_loop().call_later(linger, self.wake)

    async def receive(self) -> T:
        """Get on the loop, waiting for an item. Cancellation: no item was taken."""
        if self._is_empty():
            await self._wait_while(self._is_empty)
        elif self._is_out_of_breath():
            await asyncio.sleep(0)
        item = self._async.get_nowait()
        self._count()
        return item

    def _is_full(self) -> bool:
        return len(self._queue.items) >= self._room and not self._is_over

    def _is_empty(self) -> bool:
        return not self._queue.items and not self._is_over

    def _is_out_of_breath(self) -> bool:
        """Now and then the loop must run: nothing else lets it while there is room, or an item."""
        self._breath = (self._breath + 1) % YIELD_EVERY
        return self._breath == 0

    async def _wait_while(self, is_stuck: Callable[[], bool]) -> None:
        """Wait while the queue is stuck. What is so after it stays so until the next `await`.

        A change that comes before `awaited` is set is not rung for, but it comes before the look at the queue, too.
        """
        while is_stuck():
            self._breath = 0
            self._loop = asyncio.get_running_loop()
            self._bell = self._loop.create_future()
            self.awaited = True
            if is_stuck():
                await self._bell

    def put(self, item: T) -> None:
        """Put from the thread, waiting for room."""
        self._sync.put(item)
        if self.awaited:
            self._ring()

    def get(self) -> T:
        """Get in the thread, waiting for an item."""
        while self._is_empty():
            self.thread_waiting = True
            if self._is_empty():
                self._gong.acquire()
        item = self._sync.get_nowait()
        self._count()
        if self.awaited:
            self._ring()
        return item

    def wake(self) -> None:
        """Wake the thread if it waits for an item. On the loop."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self.thread_waiting:
            self.thread_waiting = False
            self._strike_gong()

    def _strike_gong(self) -> None:
        """Have the thread look again. From any thread; once too often is no harm."""
        try:  # noqa: SIM105 # `suppress` is three calls, and this is for each item
            self._gong.release()
        except RuntimeError:  # it was struck, and is not heard yet
            pass

    def qsize(self) -> int:
        return len(self._queue.items)

    def _count(self) -> None:
        self.left += 1
        if self.left == self._queue.timed:
            if self._waited is not None:
                self._waited(time.perf_counter() - self._queue.put_at)
            self._queue.timed = 0

    def _ring(self) -> None:
        """Wake the loop, which waits. From any thread. Two may ring for one wait: once too often, and no harm."""
        self.awaited = False
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._strike)
            except RuntimeError:  # the loop is gone, and with it whoever waited
                self._loop = None

    def _strike(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def finish(self) -> None:
        """End after what is in the queue. For the putting side, after its last put: one still waiting is refused."""
        self._shutdown(immediate=False)

    def cut(self) -> None:
        """End now and drop what is in the queue."""
        self._shutdown(immediate=True)

    def _shutdown(self, *, immediate: bool) -> None:
        self._queue.shutdown(immediate)
        self._is_over = True
        self._strike_gong()
        if self.awaited:
            self._ring()
