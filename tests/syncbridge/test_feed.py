"""The feed: what an SDK iterates."""

from __future__ import annotations

import janus

from syncbridge import queue_to_generator


async def test_11_the_feed_gives_what_is_queued_then_stops_and_raises_nothing() -> None:
    queue: janus.Queue[bytes] = janus.Queue(4)
    await queue.async_q.put(b"one")
    await queue.async_q.put(b"two")
    queue.async_q.shutdown()
    feed = queue_to_generator(queue.sync_q)
    assert list(feed) == [b"one", b"two"]
    assert list(feed) == []
    await queue.aclose()


async def test_11_a_queue_that_is_cut_ends_the_feed_too() -> None:
    queue: janus.Queue[bytes] = janus.Queue(4)
    await queue.async_q.put(b"dropped")
    queue.shutdown(immediate=True)
    assert list(queue_to_generator(queue.sync_q)) == []
    await queue.aclose()


async def test_queued_items_are_joined_and_a_single_one_is_not() -> None:
    queue: janus.Queue[bytes] = janus.Queue(4)
    feed = queue_to_generator(queue.sync_q, b"".join)
    await queue.async_q.put(b"one")
    assert next(feed) == b"one"
    for item in (b"two", b"three", b"four"):
        await queue.async_q.put(item)
    queue.async_q.shutdown()
    assert list(feed) == [b"twothreefour"]
    await queue.aclose()


def test_items_that_arrive_while_joining_are_left_for_the_next() -> None:
    """Otherwise a sender that refills the queue as fast as it is emptied would make one endless item."""
    queue: janus.Queue[bytes] = janus.Queue(4)

    class Refilled:
        """A queue that is refilled at once."""

        def qsize(self) -> int:
            return queue.sync_q.qsize()

        def get(self) -> bytes:
            item = queue.sync_q.get()
            queue.sync_q.put(item)
            return item

    for item in (b"one", b"two", b"three", b"four"):
        queue.sync_q.put(item)
    feed = queue_to_generator(Refilled(), b"".join)
    assert next(feed) == b"onetwothreefourone"
    queue.close()
