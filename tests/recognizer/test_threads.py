"""The decoding threads: which work is done first, and what becomes of work that nobody waits for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from speechbridge.recognizer.threads import DecodingThreads

PATIENCE = 10.0  # seconds; only a failing test waits so long


class Latch:
    """Holds the one thread until it is let go, so that a test may queue work behind it."""

    def __init__(self, threads: DecodingThreads) -> None:
        self._begun, self._released = threading.Event(), threading.Event()
        self.job = threads.submit(self._hold)
        assert self._begun.wait(PATIENCE)

    def _hold(self) -> None:
        self._begun.set()
        assert self._released.wait(PATIENCE)

    async def release(self) -> None:
        self._released.set()
        await self.job.result


async def test_work_is_done_in_another_thread_and_its_result_comes_back() -> None:
    with DecodingThreads(2) as threads:
        assert await threads.submit(threading.get_ident).result != threading.get_ident()


async def test_an_error_is_raised_where_the_result_is_awaited() -> None:
    def fail() -> None:
        raise ValueError("no")

    with DecodingThreads(1) as threads:
        with pytest.raises(ValueError, match="no"):
            await threads.submit(fail).result
        assert await threads.submit(lambda: "the thread goes on").result


async def test_what_is_urgent_comes_first_and_the_rest_in_order() -> None:
    done: list[str] = []
    with DecodingThreads(1) as threads:
        latch = Latch(threads)
        jobs = [
            threads.submit(lambda name=name: done.append(name), urgent=name.isupper())  # type: ignore[misc] # a lambda
            for name in ("a", "B", "c", "D")
        ]
        await latch.release()
        await asyncio.gather(*(job.result for job in jobs))
    assert done == ["B", "D", "a", "c"]


async def test_work_may_become_urgent_while_it_waits() -> None:
    done: list[str] = []
    with DecodingThreads(1) as threads:
        latch = Latch(threads)
        first = threads.submit(lambda: done.append("first"))
        second = threads.submit(lambda: done.append("second"))
        second.hurry()
        latch.job.hurry()  # has begun: nothing changes
        await latch.release()
        await asyncio.gather(first.result, second.result)
        second.hurry()  # is done: nothing changes
    assert done == ["second", "first"]


async def test_work_that_nobody_waits_for_is_not_done() -> None:
    done: list[str] = []
    with DecodingThreads(1) as threads:
        latch = Latch(threads)
        cancelled = threads.submit(lambda: done.append("cancelled"))
        cancelled.result.cancel()
        kept = threads.submit(lambda: done.append("kept"))
        await latch.release()
        await kept.result
    assert done == ["kept"]


async def test_a_result_that_comes_too_late_is_dropped() -> None:
    with DecodingThreads(1) as threads:
        latch = Latch(threads)
        latch.job.result.cancel()
        latch._released.set()
        assert await threads.submit(lambda: "next").result == "next"


async def test_leaving_finishes_what_has_begun_and_leaves_the_rest() -> None:
    done: list[str] = []
    with DecodingThreads(1) as threads:
        latch = Latch(threads)
        waiting = threads.submit(lambda: done.append("waiting"))
        threading.Timer(0.01, latch._released.set).start()  # while the threads are being joined
    assert done == []
    assert not waiting.result.done()
    await latch.job.result


async def test_a_thread_that_hangs_is_noticed() -> None:
    with DecodingThreads(2) as threads:
        latch = Latch(threads)
        await asyncio.wait_for(threads.await_stuck(0.01), PATIENCE)
        await latch.release()


async def test_threads_that_only_work_are_not_taken_for_hanging() -> None:
    with DecodingThreads(1) as threads:
        watching = asyncio.create_task(threads.await_stuck(PATIENCE))
        for _ in range(100):
            await threads.submit(lambda: None).result
        assert not watching.done()
        watching.cancel()
