"""A bounded queue between the event loop and one thread. janus is imported here only.

janus holds the items and shuts the queue down. Only its public methods are used, and only those that never wait: the
waits are implemented here. janus wakes a coroutine through a task and a condition, which takes two more iterations of
the loop for each item. Two more things are added here: a coroutine that always finds items, or room, yields to the loop
now and then; and a loop that is closed already causes no error.
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
MEASURED_EVERY = 16  # the wait of one item in 16 is measured: that costs two calls of a clock, else two comparisons


class Channel(Generic[T]):
    """A FIFO of at most `room` items, used in one direction.

    Either the loop calls `send`, from any number of tasks, and one thread calls `get`; or the thread calls `put`, and
    the loop calls `receive`. `finish` is the graceful end, called by the putting side: queued items still come out.
    `cut` is the abrupt one, callable from any thread: the queue is emptied, and every wait on either side ends at once.

    After either end, `put` and `get` raise SyncQueueShutDown, `send` and `receive` AsyncQueueShutDown.

    `waited` is called with the seconds that an item was queued, for one item in `MEASURED_EVERY`, by the side that took
    the item.
    """

    def __init__(self, room: int, waited: Callable[[float], object] | None = None) -> None:
        self._room = room
        self._queue: janus.Queue[T] = janus.Queue(room)
        self._sync, self._async = self._queue.sync_q, self._queue.async_q
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_waiters: list[asyncio.Future[None]] = []  # touched on the loop only
        self._waited = waited
        self.loop_waiting = False  # a task waits on the loop: the thread must notify it
        self._thread_waiter = threading.Lock()  # the thread waits by acquiring it; to release it wakes the thread
        self._thread_waiter.acquire()
        self._is_over = False
        self.thread_waiting = False  # the thread waits: the loop must wake it
        # `entered` is counted by the putting side alone, before each item, and `_ready` after it; `left` by the getting
        # side alone, after each item. So plain integers are exact, and there are never more queued items than
        # `entered - left`, nor, until a channel is over, fewer than `_ready - left`.
        self.entered = self.left = self._ready = 0
        self.peak = 0  # the greatest depth so far
        self._measured = 0  # the number of the item whose wait is measured: set by the putter, reset by the getter
        self._put_at = 0.0

    def qsize(self) -> int:
        return self._sync.qsize()

    def has_room(self) -> bool:
        """Tell whether an item can be put without waiting. Only another item, or the end, makes this false again."""
        return not (self._is_full() or self._is_over)

    # ---- the loop's side ---------------------------------------------------------------------------------------------

    async def send(self, item: T) -> None:
        """Put from the loop, waiting for room. Cancellation: the item was not put."""
        if (self.entered + 1) % YIELD_EVERY == 0:  # nothing else lets the loop run while there is room
            await asyncio.sleep(0)
        while self._is_full():
            await self._wait_on_loop(self._is_full)
        self.send_nowait(item)

    def send_nowait(self, item: T) -> None:
        """Put from the loop; there must be room."""
        self._enter(item, self._async.put_nowait)
        if self.thread_waiting:
            self._wake_thread()

    async def receive(self) -> T:
        """Get on the loop, waiting for an item. Cancellation: no item was taken."""
        if (self.left + 1) % YIELD_EVERY == 0:  # nothing else lets the loop run while there are items
            await asyncio.sleep(0)
        while self._is_empty():
            await self._wait_on_loop(self._is_empty)
        item = self._async.get_nowait()
        self._count_out()
        if self.thread_waiting:
            self._wake_thread()
        return item

    async def _wait_on_loop(self, must_wait: Callable[[], bool]) -> None:
        """Wait until the thread has changed the queue, if `must_wait` says so.

        The thread does not report a change that it makes before `loop_waiting` is set. That is harmless: `must_wait` is
        called after it is set, and sees the change.
        """
        self._loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._loop_waiters.append(waiter)
        try:
            self.loop_waiting = True
            if must_wait():
                await waiter
        finally:
            self._loop_waiters.remove(waiter)

    def _wake_thread(self) -> None:
        self.thread_waiting = False
        self._release_thread()

    # ---- the thread's side -------------------------------------------------------------------------------------------

    def put(self, item: T) -> None:
        """Put from the thread, waiting for room."""
        while self._is_full():
            self._wait_in_thread(self._is_full)
        self._enter(item, self._sync.put_nowait)
        if self.loop_waiting:
            self._notify_loop()

    def get(self) -> T:
        """Get in the thread, waiting for an item."""
        while self._is_empty():
            self._wait_in_thread(self._is_empty)
        item = self._sync.get_nowait()
        self._count_out()
        if self.loop_waiting:
            self._notify_loop()
        return item

    def _wait_in_thread(self, must_wait: Callable[[], bool]) -> None:
        """Wait until the loop has changed the queue, if `must_wait` says so. The race is that of `_wait_on_loop`."""
        self.thread_waiting = True
        if must_wait():
            self._thread_waiter.acquire()

    # ---- either side -------------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self.entered - self.left >= self._room and not self._is_over

    def _is_empty(self) -> bool:
        return self._ready == self.left and not self._is_over

    def _enter(self, item: T, put: Callable[[T], object]) -> None:
        """Put an item, and count it before the other side can take it."""
        self.entered += 1
        if self.entered % MEASURED_EVERY == 0 and not self._measured:
            self._put_at, self._measured = time.perf_counter(), self.entered
        depth = self.entered - self.left
        try:
            put(item)
        except (AsyncQueueShutDown, SyncQueueShutDown):
            self.entered -= 1
            raise
        self._ready += 1
        self.peak = max(self.peak, depth)

    def _count_out(self) -> None:
        self.left += 1
        if self.left == self._measured:
            if self._waited is not None:
                self._waited(time.perf_counter() - self._put_at)
            self._measured = 0

    def _release_thread(self) -> None:
        """Have the thread check the queue again. Thread-safe. A call too many is harmless: the thread waits again."""
        try:  # noqa: SIM105 # `suppress` is three calls, and this runs for each item
            self._thread_waiter.release()
        except RuntimeError:  # it is released already, and the thread has not acquired it yet
            pass

    def _notify_loop(self) -> None:
        """Wake the tasks that wait on the loop. Thread-safe. A call too many is harmless: they wait again."""
        self.loop_waiting = False
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._release_loop)
            except RuntimeError:  # the loop is closed, and no task waits on it any more
                self._loop = None

    def _release_loop(self) -> None:
        """Wake every task, not only one: if that one were cancelled now, the others would miss the change."""
        for waiter in self._loop_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def finish(self) -> None:
        """End once the queued items are taken. Called by the putting side; a put that still waits for room raises."""
        self._shutdown(immediate=False)

    def cut(self) -> None:
        """End now and drop the queued items."""
        self._shutdown(immediate=True)

    def _shutdown(self, *, immediate: bool) -> None:
        self._queue.shutdown(immediate)
        self._is_over = True
        self._release_thread()
        if self.loop_waiting:
            self._notify_loop()
