"""A blocking call in a thread of its own: its result, its error, and that nobody waits for one that hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest

from speechbridge.blocking import in_own_thread


async def test_what_a_call_returns_is_returned() -> None:
    assert await in_own_thread(lambda: threading.current_thread().name, "of-its-own") == "of-its-own"


async def test_what_a_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(lambda: 1 // 0, "failing")


async def test_a_call_that_hangs_can_be_left_behind() -> None:
    released = threading.Event()
    waiting = asyncio.create_task(in_own_thread(released.wait, "hanging"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    released.set()  # the thread tells a future that nobody waits for


def test_a_loop_ends_while_a_call_hangs() -> None:
    released = threading.Event()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await in_own_thread(released.wait, "hanging")

    asyncio.run(leave())
    released.set()  # the thread finds the loop closed
