"""The bridge: a sync-generator SDK on one side, an event loop on the other.

An SDK of this kind is a function: it takes an iterator of input and returns an iterator of responses, and both block.
Who runs where:

    the loop                           the worker, a thread of the pool        a thread of the SDK's own, often
    --------                           --------------------------------        --------------------------------
    send() --> inbound channel ------> start(feed) ... for response in ... <-- for item in feed
    async for <-- outbound channel <-- put(response)

The worker alone calls `start`, iterates the responses and closes them. The feed is a generator over the inbound
channel; the SDK iterates it wherever it likes.

**Five waits** can last for ever, so each is woken by every way in which a bridge can end:

    1. the loop in send(), inbound full         woken by room, or by the channel's end
    2. the SDK in the feed, inbound empty       woken by an item, or by the channel's end
    3. the worker in put(), outbound full       woken by room, or by the channel's end
    4. the loop in `async for`, outbound empty  woken by a response, or by the channel's end
    5. a thread inside the SDK (recv, send)     woken by `abort` only; while it connects, by its own timeout only

**Five ways to end**, and what each does. A channel that *finishes* still gives out its items; one that is *cut* drops
them.

    end()                   inbound finishes: the feed yields the remaining items and stops; the SDK gives its last
                            responses; outbound drains
    the SDK finishes        inbound is cut (wakes 1, 2); outbound finishes: it drains, then the iteration ends. It ends
                            with Early if the caller had not ended the input, or the SDK had not taken all of it
    the SDK raises          the same; after the last response the iteration raises the SDK's exception
    cancel(), or the body   both channels are cut (wakes 1 to 4), abort is called (wakes 5); leaving waits for the
    raises or is cancelled  worker, at most the grace period
    the worker does not     after the grace period it is abandoned: counted, and logged with its stack; its slot stays
    stop                    taken

**What is guaranteed.** Items keep their order. Nothing is lost while nobody cancels and the SDK takes its input: what
send() accepted comes out of the feed, and what the SDK yielded comes out of the iteration. There is exactly one
outcome. It is set before the outbound channel ends, so that whoever sees the end can read it. The first error is never
masked by a later one. The loop never blocks.

**What is not.** When the SDK finishes or fails before it took all input, the rest is dropped: the iteration raises, and
statistics() shows how much. A thread that waits inside the SDK cannot be stopped from outside: give `abort`, and give
the SDK timeouts.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic

from syncbridge.channel import AsyncQueueShutDown, Channel, SyncQueueShutDown
from syncbridge.errors import BridgeError, Broken, Closed, Early, Overloaded
from syncbridge.feed import queue_to_generator
from syncbridge.pool import Slot, WorkerPool
from syncbridge.start import close, started
from syncbridge.types import Abandoned, Failed, Finished, In, Limits, Out, Outcome, Start, State, Statistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from types import TracebackType
    from typing import Self

    from syncbridge.types import Direction

logger = logging.getLogger(__name__)

SHARED_POOL = WorkerPool(64)  # for bridges that are given no pool; 64 is a guess


class Bridge(Generic[In, Out]):
    """A sync-generator SDK as an async context manager.

        async with Bridge(start) as bridge:
            await bridge.send(item)  # any number, from one task ...
            bridge.end()
            async for response in bridge:  # ... while another reads
                ...

    Several tasks may send, and several may read: each item goes to the SDK once, each response to one of the readers.

    `start` is the SDK (see `Start`). `abort`, if given, must wake a thread that waits inside the SDK. It is called
    from the loop or the worker, must not block, and may be called twice, also before the SDK has connected. `join`,
    if given, merges all queued items into one, for an SDK to which the items' boundaries mean nothing (for audio as
    bytes: `b"".join`). `pool` gives the thread; `name` names it. `waited` is called with a direction and the seconds
    that an item was queued, for one item in 16; it is called on the loop and in threads, and must not block.

    If `start` is async, or returns one response in place of an iterable, the iteration raises WrongStart.

    Entering raises Overloaded at once when the pool has no free worker. Leaving always cancels an SDK that still runs,
    and waits for the worker for at most `limits.grace` seconds. It never masks the body's exception.

    Cancellation: a task that is cancelled in the body leaves as described above. If it is cancelled again while it
    waits for the worker, it leaves at once; the worker is still abandoned only after the whole grace period.
    """

    def __init__(  # noqa: PLR0913 # all but the first can be left out
        self,
        start: Start[In, Out],
        *,
        abort: Callable[[], object] | None = None,
        join: Callable[[list[In]], In] | None = None,
        limits: Limits | None = None,
        pool: WorkerPool | None = None,
        name: str = "bridge",
        waited: Callable[[Direction, float], object] | None = None,
    ) -> None:
        self._start = start
        self._abort = abort
        self._join = join
        self._limits = limits or Limits()
        self._pool = pool or SHARED_POOL
        self._name = name
        self._inbound: Channel[In] = Channel(self._limits.inbound, waited and partial(waited, "inbound"))
        self._outbound: Channel[Out] = Channel(self._limits.outbound, waited and partial(waited, "outbound"))
        self._slot: Slot | None = None
        self._ended = False
        self._cancelled = False
        self._outcome: Outcome | None = None
        self._outcome_lock = threading.Lock()
        self._worker_over = asyncio.Event()
        self._grace: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._slot is not None:
            raise RuntimeError("a bridge is entered once: make a new one")
        self._slot = self._pool.try_acquire()
        if self._slot is None:
            raise Overloaded(f"all {self._pool.total} workers are in use")
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop was closed while the worker ran: nobody waits for it any more
                loop.call_soon_threadsafe(self._on_worker_over)

        try:
            self._slot.run(lambda: context.run(self._work), name=self._name, done=notify)
        except RuntimeError as error:
            raise Overloaded("the system cannot start a thread") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outcome is None:
            self.cancel()
        if not self._worker_over.is_set():
            self._grace = asyncio.get_running_loop().call_later(self._limits.grace, self._abandon)
        try:
            await self._worker_over.wait()
        finally:
            self._inbound.cut()
            self._outbound.cut()

    # ---- the loop's side ---------------------------------------------------------------------------------------------

    async def send(self, item: In) -> None:
        """Give one item to the SDK, waiting while `limits.inbound` items are ahead of it.

        Raises Closed after `end` or `cancel` or once the SDK has finished, and Broken once it has failed; the item was
        not taken then. If `end` is called while a send waits for room, that send raises Closed, too.

        Cancellation: the item was not taken.
        """
        if self._slot is None:
            raise RuntimeError("call `send` inside `async with`: the bridge is not open yet")
        try:
            await self._inbound.send(item)
        except AsyncQueueShutDown:
            raise self._refusal() from (self._outcome.error if isinstance(self._outcome, Failed) else None)

    def send_nowait(self, item: In) -> bool:
        """Give one item to the SDK if that needs no waiting; return whether it was taken. Call it on the loop."""
        if self._slot is None or not self.has_room:
            return False
        try:
            self._inbound.send_nowait(item)
        except AsyncQueueShutDown:  # another thread has just ended the bridge
            return False
        return True

    @property
    def has_room(self) -> bool:
        """Whether the bridge takes an item at once. Only another item, or the bridge's end, makes this false again."""
        return self._inbound.has_room()

    def end(self) -> None:
        """Half-close: no more input; responses still arrive. Idempotent, thread-safe, never waits."""
        self._ended = True
        self._inbound.finish()

    def cancel(self) -> None:
        """Stop now: drop both queues and abort the SDK. Idempotent, thread-safe, never waits.

        Responses that were not read yet are lost, and counted. It is leaving the bridge that waits for the worker.
        """
        if self._cancelled:
            return
        self._cancelled = True
        self._inbound.cut()
        self._outbound.cut()
        if self._outcome is None:
            self._call_abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Out:
        """Return the next response, waiting for it.

        After the last response the iteration ends, if the SDK finished after it had taken all input up to `end`. If the
        SDK finished before that, this raises Early: some input was not transcribed. If the SDK failed, this raises the
        SDK's own exception; if the bridge was cancelled, Closed.

        Cancellation: no response is lost.
        """
        if self._slot is None:
            raise RuntimeError("iterate inside `async with`: the bridge is not open yet")
        try:
            return await self._outbound.receive()
        except AsyncQueueShutDown:
            pass
        if self._cancelled:
            raise Closed("the bridge was cancelled")
        if isinstance(self._outcome, Failed):
            raise _presentable(self._outcome.error)
        untaken = self._inbound.entered - self._inbound.left
        if untaken or not self._ended:
            raise Early(f"the SDK finished before its input ended; {untaken} items were not taken")
        raise StopAsyncIteration

    @property
    def outcome(self) -> Outcome | None:
        """How the SDK ended; None while it runs."""
        return self._outcome

    def statistics(self) -> Statistics:
        """Return a snapshot. Thread-safe, never waits."""
        return Statistics(
            sent=self._inbound.entered,
            fed=self._inbound.left,
            yielded=self._outbound.entered,
            received=self._outbound.left,
            inbound_depth=self._inbound.qsize(),
            inbound_peak=self._inbound.peak,
            outbound_depth=self._outbound.qsize(),
            outbound_peak=self._outbound.peak,
            state=self._state(),
        )

    def _state(self) -> State:
        match self._outcome:
            case Finished():
                return "finished"
            case Failed():
                return "failed"
            case Abandoned():
                return "abandoned"
        if self._cancelled:
            return "cancelled"
        if self._ended:
            return "draining"
        return "open" if self._slot else "new"

    def _refusal(self) -> BridgeError:
        if self._cancelled:
            return Closed("the bridge was cancelled")
        if self._ended:
            return Closed("the input was ended")
        if isinstance(self._outcome, Failed):
            return Broken("the SDK failed")
        return Closed("the SDK has finished")

    def _on_worker_over(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        self._worker_over.set()

    def _abandon(self) -> None:
        assert self._slot is not None  # noqa: S101 # only called when the bridge was entered
        stack = self._slot.abandon()
        self._settle(Abandoned(stack))
        logger.warning("%s: the worker did not stop and is abandoned; its stack:\n%s", self._name, stack)
        self._worker_over.set()  # it still runs, but leaving has waited long enough

    # ---- the worker's side -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        responses: Iterable[Out] = ()
        try:
            responses = started(self._start, queue_to_generator(self._inbound, self._join))
            if self._cancelled:
                # cancel() was called while `start` connected, when abort had nothing to close yet. If it is called
                # after this check instead, its own abort finds the connection: both orders are covered.
                self._call_abort()
            for response in responses:
                self._outbound.put(response)
        except SyncQueueShutDown as error:
            # Raised by put() when the caller has left and reads no more responses. On Python 3.13 this is
            # queue.ShutDown, which an SDK may also raise for its own reasons.
            self._settle(Finished() if self._cancelled else Failed(error))
        except BaseException as error:  # noqa: BLE001 # an SDK may raise anything; the reader of the responses gets it
            self._settle(Failed(error))
        else:
            self._settle(Finished())
        # The outcome is set before any reader of it is woken. The input is cut before the responses are closed, because
        # closing may wait for an SDK thread that waits in the feed.
        self._inbound.cut()
        close(responses)
        self._outbound.finish()

    def _settle(self, outcome: Outcome) -> None:
        with self._outcome_lock:  # the worker sets it, and the loop when it abandons the worker
            self._outcome = self._outcome or outcome

    def _call_abort(self) -> None:
        try:
            if self._abort is not None:
                self._abort()
        except (Exception, SystemExit, GeneratorExit):  # an SDK may raise anything; the bridge must still end
            logger.exception("%s: abort failed", self._name)


def _presentable(error: BaseException) -> BaseException:
    """Return what to raise from `__anext__` for an SDK's error: the error itself, wherever that is possible.

    These cannot be raised there. asyncio would take StopAsyncIteration for the end of the iteration, CancelledError for
    a cancellation of the reading task, SystemExit and KeyboardInterrupt for its own end. StopIteration cannot leave a
    coroutine.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    broken = Broken(f"the SDK raised {type(error).__name__}")
    broken.__cause__ = error
    return broken


async def pump(source: AsyncIterable[In], bridge: Bridge[In, Out]) -> bool:
    """Send everything of `source`, then end the input. Returns True if the bridge accepted everything.

    It returns False if the bridge ended first. The reader of the responses gets the reason; it is not raised here.
    If `source` raises, so does this, and the input is left open, so that half a stream is not taken for a whole one.

    Cancellation: the item that was being sent is not sent, and the input is left open.
    """
    try:
        async for item in source:
            await bridge.send(item)
    except (Closed, Broken):
        return False
    bridge.end()
    return True
