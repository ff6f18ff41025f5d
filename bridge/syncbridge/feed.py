"""Turns the synchronous side of a queue into the generator that an SDK takes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from syncbridge.channel import SyncQueueShutDown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class SyncSource(Protocol[T_co]):
    """A queue whose blocking `get` raises janus.SyncQueueShutDown at its end, like a janus queue's `sync_q`."""

    def get(self) -> T_co: ...

    def qsize(self) -> int: ...


def queue_to_generator(queue: SyncSource[T], join: Callable[[list[T]], T] | None = None) -> Generator[T]:
    """Yield the items of `queue`, in order, until it is shut down.

    With `join` (for bytes: `b"".join`) all queued items are yielded as one. The generator never waits for more items to
    join: an SDK that keeps up gets each item by itself, and one that fell behind gets fewer and larger ones.

    The generator ends and never raises. Most SDKs run it in a thread of their own, where nobody catches an exception,
    and the SDK would then wait for an end of input that was never sent.

    Cancellation: shut the queue down. A generator cannot be closed while another thread waits in it.
    """
    while True:
        try:
            item = queue.get()
        except SyncQueueShutDown:
            return
        if join is not None and (waiting := queue.qsize()):
            item = join([item, *_taken(queue, waiting)])  # no more than these: a fast sender may keep refilling it
        yield item
        del item  # otherwise it would stay in memory while the generator waits for the next one


def _taken(queue: SyncSource[T], number: int) -> Iterator[T]:
    with suppress(SyncQueueShutDown):  # cut meanwhile: the items taken so far still go to the SDK
        for _ in range(number):
            yield queue.get()
