"""The feed: what an SDK iterates."""

from __future__ import annotations

import janus

from bridge import queue_to_generator


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
