"""The worker: how it is stopped, and what it does when that is difficult."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import pytest

from syncbridge import Abandoned, Bridge, Failed, Finished, Limits, WorkerPool
from tests.helpers.puppet import PATIENCE, Aborted, Puppet, until

if TYPE_CHECKING:
    from collections.abc import Iterator


async def test_a_worker_that_does_not_stop_is_abandoned_and_keeps_its_slot() -> None:
    puppet, pool = Puppet(), WorkerPool(1)
    async with Bridge(puppet.start, pool=pool, limits=Limits(grace=0)) as bridge:
        await until(lambda: puppet.ran_in)
    assert isinstance(bridge.outcome, Abandoned)
    assert "self._orders.get" in bridge.outcome.stack
    assert bridge.statistics().state == "abandoned"
    assert (pool.active, pool.abandoned) == (1, 1)
    assert pool.try_acquire() is None
    puppet.finish()
    await until(lambda: (pool.active, pool.abandoned) == (0, 0))
    assert isinstance(bridge.outcome, Abandoned)


async def test_cancel_while_the_sdk_connects_aborts_again_once_it_has_connected() -> None:
    """An abort before there is a connection closes nothing: without a second one the worker would wait for ever."""
    connecting, connect, puppet = threading.Event(), threading.Event(), Puppet()
    aborts_seen = []

    def start(feed: Iterator[object]) -> Iterator[object]:
        connecting.set()
        assert connect.wait(PATIENCE)
        return puppet.start(feed)

    def abort() -> None:
        aborts_seen.append(connect.is_set())
        if connect.is_set():
            puppet.abort()

    async with Bridge(start, abort=abort) as bridge:
        await asyncio.to_thread(connecting.wait, PATIENCE)
        bridge.cancel()
        connect.set()
    assert aborts_seen == [False, True]
    assert isinstance(bridge.outcome, Failed)
    assert isinstance(bridge.outcome.error, Aborted)


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_an_error_while_closing_the_responses_changes_nothing(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """With one that is no Exception, the reader waited for ever."""

    class Responses:
        def __iter__(self) -> Iterator[str]:
            return iter(["one"])

        def close(self) -> None:
            raise error("already gone")

    def sdk(_feed: Iterator[object]) -> Responses:
        return Responses()

    async with Bridge(sdk) as bridge:
        bridge.end()
        async with asyncio.timeout(PATIENCE):
            assert [response async for response in bridge] == ["one"]
        assert bridge.outcome == Finished()
    assert "already gone" in caplog.text


def test_a_loop_that_is_closed_while_the_worker_runs_raises_nothing_there() -> None:
    """No call to the closed loop raises in the worker, where nobody would understand the traceback."""
    puppet, pool = Puppet(), WorkerPool(1)

    async def enter_and_vanish() -> Bridge[object, object]:
        bridge: Bridge[object, object] = Bridge(puppet.start, pool=pool)
        await bridge.__aenter__()
        reader = asyncio.create_task(bridge.__anext__())
        await until(lambda: bridge._outbound.loop_waiting)
        reader.cancel()
        return bridge

    bridge: Bridge[object, object] = asyncio.run(enter_and_vanish())
    worker = puppet.ran_in[0]
    puppet.say("to nobody")
    puppet.finish()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert bridge.outcome == Finished()
    assert pool.active == 0
    gc.collect()
