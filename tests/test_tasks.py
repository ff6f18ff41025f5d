"""Cancelling and waiting: nothing outlives it, and nothing is lost in it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from speechbridge.tasks import cancel_and_wait


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError


async def started(task: asyncio.Task[None]) -> asyncio.Task[None]:
    await asyncio.sleep(0)
    return task


async def test_tasks_that_run_are_cancelled_and_have_ended_afterwards() -> None:
    tasks = [await started(asyncio.create_task(for_ever())) for _ in range(3)]
    await cancel_and_wait(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_never_ran_is_cancelled_too() -> None:
    task = asyncio.create_task(for_ever())
    await cancel_and_wait(task)
    assert task.cancelled()


async def test_no_task_at_all_is_fine() -> None:
    await cancel_and_wait()


async def test_what_a_task_raised_is_dropped_and_counts_as_retrieved() -> None:
    """A warning "exception was never retrieved" would be an error here."""
    failed = await started(asyncio.create_task(fail()))
    await cancel_and_wait(failed)
    assert isinstance(failed.exception(), ValueError)


async def test_it_waits_for_a_clean_up() -> None:
    may_end, cleaning = asyncio.Event(), asyncio.Event()

    async def clean_up() -> None:
        try:
            await for_ever()
        finally:
            cleaning.set()
            await may_end.wait()

    task = await started(asyncio.create_task(clean_up()))
    waiting = asyncio.create_task(cancel_and_wait(task))
    await cleaning.wait()
    assert not waiting.done()
    may_end.set()
    await waiting
    assert task.done()


async def test_its_own_cancellation_is_raised_once_all_tasks_have_ended() -> None:
    """`suppress(CancelledError)` around the wait would swallow it: the owner would go on."""
    cleaning, went_on = asyncio.Event(), False

    async def clean_up() -> None:
        try:
            await for_ever()
        finally:
            cleaning.set()
            await for_ever()  # a clean-up that hangs

    task = await started(asyncio.create_task(clean_up()))

    async def own() -> None:
        nonlocal went_on
        await cancel_and_wait(task)
        went_on = True

    owner = asyncio.create_task(own())
    await cleaning.wait()
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert task.cancelled()
    assert not went_on


async def test_its_own_cancellation_counts_also_when_the_task_ends_by_itself_then() -> None:
    cleaning = asyncio.Event()

    async def swallow() -> None:
        with suppress(asyncio.CancelledError):
            await for_ever()
        with suppress(asyncio.CancelledError):
            cleaning.set()
            await for_ever()

    task = await started(asyncio.create_task(swallow()))
    owner = asyncio.create_task(cancel_and_wait(task))
    await cleaning.wait()
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert task.done()
    assert not task.cancelled()
