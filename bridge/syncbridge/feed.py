"""From the synchronous side of a queue to the generator an SDK takes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from syncbridge.channel import SyncQueueShutDown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class SyncSource(Protocol[T_co]):
    """Something with a blocking `get` that raises janus.SyncQueueShutDown at its end: a janus queue's `sync_q`."""

    def get(self) -> T_co: ...

    def qsize(self) -> int: ...


def queue_to_generator(queue: SyncSource[T], join: Callable[[list[T]], T] | None = None) -> Generator[T]:
    """Yield what comes out of `queue`, in order, until it is shut down.

    With `join` (for bytes: `b"".join`) all that lies in the queue is yielded as one item. Nothing waits for that: an
    SDK that keeps up gets each item by itself, and one that fell behind gets fewer and larger ones.

    The generator ends and never raises: most SDKs run it in a thread of their own, where nobody catches an exception,
    and the SDK would wait for an end of input that was never sent.

    Cancellation: shut the queue down. A generator cannot be closed while another thread waits in it.
    """
    while True:
        try:
            item = queue.get()
        except SyncQueueShutDown:
            return
        if join is not None and (waiting := queue.qsize()):
            item = join([item, *_taken(queue, waiting)])  # no more than these: the sender may refill the queue as fast
        yield item
        del item  # otherwise it would be kept in memory while the next is waited for


def _taken(queue: SyncSource[T], number: int) -> Iterator[T]:
    with suppress(SyncQueueShutDown):  # cut meanwhile: what was taken already is given to the SDK
        for _ in range(number):
            yield queue.get()
