"""A bounded queue between the event loop and one thread. The only import of janus.

janus holds the items and ends the queue. Only its public methods are used, and nobody waits in it: the waits are our
own. janus wakes a coroutine by way of a task and a condition, which takes two more turns of the loop for each item, and
it wakes a thread for each of many small items that could be taken together. Also added here: a consumer that always
finds items lets the loop run now and then, and a loop that was closed already does no harm.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

import janus
from janus import AsyncQueueShutDown, SyncQueueShutDown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AsyncQueueShutDown", "Channel", "SyncQueueShutDown"]

T = TypeVar("T")

YIELD_EVERY = 16  # items that a coroutine handles before it lets the loop run: a guess, about 0.5 ms of work
TIMED = 16  # the wait of one item in so many is measured: two clock calls then, two comparisons otherwise


class Channel(Generic[T]):
    """A FIFO of at most `room` items, used in one direction.

    The loop calls `send` and `receive`, from any number of tasks; one thread calls `put` or `get`. `finish` is the
    natural end, called by the putting side: what is in the queue still comes out. `cut` is the abrupt one, callable
    from any thread: the queue is emptied and every wait on either side ends at once.

    After either end, `put` and `get` raise SyncQueueShutDown, `send` and `receive` AsyncQueueShutDown.

    `waited` is told how many seconds an item was in the queue, of one item in `TIMED`, by the side that took it.
    """

    def __init__(self, room: int, waited: Callable[[float], object] | None = None) -> None:
        self._room = room
        self._queue: janus.Queue[T] = janus.Queue(room)
        self._sync, self._async = self._queue.sync_q, self._queue.async_q
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_waiters: list[asyncio.Future[None]] = []  # touched on the loop only
        self._waited = waited
        self.awaited = False  # somebody waits on the loop: the thread must notify it
        self._thread_waiter = threading.Lock()  # the thread waits by acquiring it; to release it wakes the thread
        self._thread_waiter.acquire()
        self._lingering: asyncio.TimerHandle | None = None
        self._is_over = False
        self.thread_waiting = False  # the thread waits: the loop must wake it
        # Items put in, which the putting side alone counts, before each; and taken out, which the getting side counts,
        # after each. So plain integers are exact, and what is between them has room for all that is in the queue.
        self.entered = self.left = 0
        self.peak = 0  # the greatest depth there was
        self._timed = 0  # the number of the item whose wait is measured: set by the putter, cleared by the getter
        self._put_at = 0.0

    def qsize(self) -> int:
        return self._sync.qsize()

    # ---- the loop's side ---------------------------------------------------------------------------------------------

    async def send(self, item: T, linger: float = 0.0) -> None:
        """Put from the loop, waiting for room. Cancellation: the item was not put.

        A thread that waits is woken `linger` seconds after the first item that lingers, or when one finds no room.
        """
        if (self.entered + 1) % YIELD_EVERY == 0:  # nothing else lets the loop run while there is room
            await asyncio.sleep(0)
        while self._is_full():
            await self._wait_on_loop(self._is_full)
        depth = self._count_in()
        try:
            self._async.put_nowait(item)
        except AsyncQueueShutDown:
            self.entered -= 1
            raise
        self.peak = max(self.peak, depth)
        if self.thread_waiting:
            if linger <= 0:
                self.wake()
            elif self._lingering is None:
                self._lingering = asyncio.get_running_loop().call_later(linger, self.wake)

    async def receive(self) -> T:
        """Get on the loop, waiting for an item. Cancellation: no item was taken."""
        if (self.left + 1) % YIELD_EVERY == 0:  # nothing else lets the loop run while there are items
            await asyncio.sleep(0)
        while self._is_empty():
            await self._wait_on_loop(self._is_empty)
        item = self._async.get_nowait()
        self._count_out()
        if self.thread_waiting:
            self.wake()
        return item

    async def _wait_on_loop(self, is_stuck: Callable[[], bool]) -> None:
        """Wait until the thread has changed something, if the queue is stuck.

        The thread does not notify of a change that comes before `awaited` is set, but `is_stuck` is called after that.
        """
        self.wake()  # nothing lingers while the loop waits
        self._loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._loop_waiters.append(waiter)
        try:
            self.awaited = True
            if is_stuck():
                await waiter
        finally:
            self._loop_waiters.remove(waiter)

    def wake(self) -> None:
        """Wake the thread if it waits. On the loop."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self.thread_waiting:
            self.thread_waiting = False
            self._release_thread()

    # ---- the thread's side -------------------------------------------------------------------------------------------

    def put(self, item: T) -> None:
        """Put from the thread, waiting for room."""
        while self._is_full():
            self._wait_in_thread(self._is_full)
        depth = self._count_in()
        try:
            self._sync.put_nowait(item)
        except SyncQueueShutDown:
            self.entered -= 1
            raise
        self.peak = max(self.peak, depth)
        if self.awaited:
            self._notify_loop()

    def get(self) -> T:
        """Get in the thread, waiting for an item."""
        while self._is_empty():
            self._wait_in_thread(self._is_empty)
        item = self._sync.get_nowait()
        self._count_out()
        if self.awaited:
            self._notify_loop()
        return item

    def _wait_in_thread(self, is_stuck: Callable[[], bool]) -> None:
        """Wait until the loop has changed something, if the queue is stuck. As `_wait_on_loop` does."""
        self.thread_waiting = True
        if is_stuck():
            self._thread_waiter.acquire()

    # ---- either side -------------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self.entered - self.left >= self._room and not self._is_over

    def _is_empty(self) -> bool:
        return not self._sync.qsize() and not self._is_over

    def _count_in(self) -> int:
        """Count an item, before the other side can take it. Returns the depth that the queue has with it."""
        self.entered += 1
        if self.entered % TIMED == 0 and not self._timed:
            self._put_at, self._timed = time.perf_counter(), self.entered
        return self.entered - self.left

    def _count_out(self) -> None:
        self.left += 1
        if self.left == self._timed:
            if self._waited is not None:
                self._waited(time.perf_counter() - self._put_at)
            self._timed = 0

    def _release_thread(self) -> None:
        """Have the thread look at the queue again. From any thread; once too often is harmless: it looks, and waits."""
        try:  # noqa: SIM105 # `suppress` is three calls, and this is for each item
            self._thread_waiter.release()
        except RuntimeError:  # it was released before, and the thread has not acquired it yet
            pass

    def _notify_loop(self) -> None:
        """Wake the loop, which waits. From any thread. Two may notify of one change, which is harmless likewise."""
        self.awaited = False
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._release_loop)
            except RuntimeError:  # the loop is closed, and whoever waited is gone with it
                self._loop = None

    def _release_loop(self) -> None:
        """Have all that wait on the loop look again: one that is cancelled now must not keep the change to itself."""
        for waiter in self._loop_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def finish(self) -> None:
        """End after what is in the queue. For the putting side, after its last put: one that still waits is refused."""
        self._shutdown(immediate=False)

    def cut(self) -> None:
        """End now and drop what is in the queue."""
        self._shutdown(immediate=True)

    def _shutdown(self, *, immediate: bool) -> None:
        self._queue.shutdown(immediate)
        self._is_over = True
        self._release_thread()
        if self.awaited:
            self._notify_loop()
