"""The bridge's invariants, by number, and the edge cases of its event table. The waits are in test_waits.py."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from itertools import count
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncbridge import Bridge, Broken, Closed, Failed, Finished, Limits, Overloaded, WorkerPool, pump
from tests.helpers.puppet import PATIENCE, Puppet, SdkError, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def echo(feed: Iterator[object]) -> Iterator[object]:
    for item in feed:
        yield f"Get {item}"


async def numbers(total: int) -> AsyncIterator[int]:
    for number in range(total):
        yield number


async def test_1_one_thread_creates_advances_and_closes_the_sdks_generator() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.abort, name="the worker") as bridge:
        puppet.say("hello")
        assert await anext(bridge) == "hello"
    assert len(set(puppet.ran_in)) == 1
    assert puppet.ran_in[0].name == "the worker"
    assert puppet.ran_in[0] is not threading.current_thread()


async def test_1_a_generator_that_is_not_exhausted_is_closed_by_the_worker() -> None:
    """GeneratorExit is raised in the SDK's generator, in its own thread."""
    puppet = Puppet()
    async with Bridge(puppet.start, limits=Limits(outbound=1)) as bridge:
        for word in ("one", "two", "three"):
            puppet.say(word)
        await until(lambda: bridge._outbound.thread_waiting)
    assert puppet.closed_in is puppet.ran_in[0]
    assert bridge.outcome == Finished()


async def test_2_the_outcome_can_be_read_after_the_last_response() -> None:
    async with Bridge(echo) as bridge:
        await bridge.send(1)
        assert bridge.outcome is None
        bridge.end()
        assert [response async for response in bridge] == ["Get 1"]
        assert bridge.outcome == Finished()


async def test_2_responses_before_a_failure_are_kept_and_the_failure_comes_unchanged() -> None:
    puppet, error = Puppet(), SdkError("mid-stream")
    async with Bridge(puppet.start) as bridge:
        puppet.say("one")
        puppet.say("two")
        puppet.fail(error)
        assert [await anext(bridge), await anext(bridge)] == ["one", "two"]
        with pytest.raises(SdkError) as raised:
            await anext(bridge)
        assert raised.value is error
        with pytest.raises(Broken) as refused:
            await bridge.send("more")
        assert refused.value.__cause__ is error
    assert bridge.outcome == Failed(error)


@settings(max_examples=60)
@given(
    items=st.lists(st.integers(), max_size=40),
    inbound=st.integers(1, 4),
    outbound=st.integers(1, 4),
    answers=st.integers(0, 3),
    last_words=st.integers(0, 3),
)
async def test_3_whatever_the_sizes_the_graceful_path_loses_nothing_and_keeps_the_order(
    items: list[int], inbound: int, outbound: int, answers: int, last_words: int
) -> None:
    def sdk(feed: Iterator[int]) -> Iterator[tuple[int, int]]:
        for item in feed:
            for answer in range(answers):
                yield item, answer
        yield from ((-1, word) for word in range(last_words))

    async def source() -> AsyncIterator[int]:
        for item in items:
            yield item

    async with Bridge(sdk, limits=Limits(inbound=inbound, outbound=outbound)) as bridge:
        sending = asyncio.create_task(pump(source(), bridge))
        with anyio.fail_after(PATIENCE):
            heard = [response async for response in bridge]
        assert await sending
    assert heard == [(item, n) for item in items for n in range(answers)] + [(-1, n) for n in range(last_words)]
    statistics = bridge.statistics()
    assert statistics.sent == statistics.fed == len(items)
    assert statistics.yielded == statistics.received == len(heard)
    assert statistics.inbound_peak <= inbound
    assert statistics.outbound_peak <= outbound


async def takes(bridge: Bridge[object, object], item: object, *, waits: bool) -> bool:
    """Give an item to the SDK; return whether it was accepted."""
    if not waits:
        return bridge.send_nowait(item)
    try:
        await bridge.send(item)
    except (Closed, Broken):
        return False
    return True


@settings(max_examples=60)
@given(
    steps=st.lists(
        st.sampled_from(["send", "send_nowait", "say", "read", "end", "cancel", "finish", "fail"]), max_size=25
    )
)
async def test_3_what_send_accepted_is_either_fed_or_counted_as_lost(steps: list[str]) -> None:
    """Any calls in any order: nothing hangs, accepted items keep their order, the losses add up."""
    puppet, accepted, numbers = Puppet(), [], count()
    with anyio.fail_after(PATIENCE):
        async with Bridge(puppet.start, abort=puppet.abort, limits=Limits(inbound=3, outbound=100)) as bridge:
            puppet.pull()
            for step in steps:
                match step:
                    case "send" | "send_nowait":
                        number = next(numbers)
                        if await takes(bridge, number, waits=step == "send"):
                            accepted.append(number)
                    case "say":
                        puppet.say("word")
                    case "read" if bridge.statistics().outbound_depth:
                        await anext(bridge)
                    case "end":
                        bridge.end()
                    case "cancel":
                        bridge.cancel()
                    case "finish":
                        puppet.finish()
                    case "fail":
                        puppet.fail(SdkError())
    assert await asyncio.to_thread(puppet.feed_ended.wait, PATIENCE)
    statistics = bridge.statistics()
    assert puppet.taken == accepted[: len(puppet.taken)]
    assert statistics.sent == len(accepted)
    assert statistics.fed == len(puppet.taken)
    assert bridge.outcome is not None


async def test_5_nothing_is_unbounded() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limits(inbound=0)
    with pytest.raises(ValueError, match="at least 1"):
        Limits(outbound=0)
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.abort, limits=Limits(inbound=2)) as bridge:
        await bridge.send(1)
        await bridge.send(2)
        third = asyncio.create_task(bridge.send(3))
        await until(lambda: bridge._inbound.loop_waiting)
        assert bridge.statistics().inbound_depth == 2
        puppet.take()
        await third
    assert puppet.taken == [1]


async def test_5_send_nowait_takes_an_item_while_there_is_room_and_the_bridge_is_open() -> None:
    puppet = Puppet()
    bridge = Bridge(puppet.start, abort=puppet.abort, limits=Limits(inbound=2))
    assert not bridge.send_nowait(0)
    async with bridge:
        assert bridge.send_nowait(1)
        assert bridge.send_nowait(2)
        assert not bridge.has_room
        assert not bridge.send_nowait(3)
        puppet.take()
        await until(lambda: bridge.has_room)
        assert bridge.send_nowait(4)
        puppet.take()
        await until(lambda: bridge.has_room)
        bridge.end()
        assert not bridge.has_room
        assert not bridge.send_nowait(5)
        puppet.take()
        await until(lambda: len(puppet.taken) == 3)
    assert puppet.taken == [1, 2, 4]


async def test_6_signals_are_idempotent_and_come_from_any_thread() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.abort) as bridge:
        puppet.pull()
        for signal in (bridge.end, bridge.end, bridge.cancel, bridge.cancel, bridge.end):
            await asyncio.to_thread(signal)
        with pytest.raises(Closed):
            await anext(bridge)
    assert puppet.feed_ended.wait(PATIENCE)
    assert puppet.aborts == 1


async def test_7_ending_the_input_does_not_end_the_output() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.abort) as bridge:
        puppet.pull()
        bridge.end()
        assert await asyncio.to_thread(puppet.feed_ended.wait, PATIENCE)
        assert bridge.statistics().state == "draining"
        puppet.say("last words")
        assert await anext(bridge) == "last words"
        with pytest.raises(Closed, match="input was ended"):
            await bridge.send("more")


@pytest.mark.parametrize("error", [OSError("no socket"), SystemExit(1)])
async def test_8_leaving_never_masks_the_first_error(error: BaseException) -> None:
    """Least of all by one that would end the event loop, and every other stream with it."""

    def broken_abort() -> None:
        puppet.finish()
        raise error

    puppet = Puppet()
    with pytest.raises(ZeroDivisionError):
        async with Bridge(puppet.start, abort=broken_abort):
            raise ZeroDivisionError


async def test_8_a_task_cancelled_twice_leaves_at_once_and_the_worker_keeps_its_grace() -> None:
    puppet, pool, entered = Puppet(), WorkerPool(1), asyncio.Event()

    async def live() -> None:
        async with Bridge(puppet.start, pool=pool, limits=Limits(grace=60)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(live())
    await entered.wait()
    task.cancel()
    for _ in range(3):  # into the wait for the worker
        await anyio.lowlevel.checkpoint()
    task.cancel()
    with anyio.fail_after(PATIENCE), pytest.raises(asyncio.CancelledError):
        await task
    assert (pool.active, pool.abandoned) == (1, 0)
    puppet.finish()
    await until(lambda: pool.active == 0)
    assert pool.abandoned == 0


async def test_9_a_full_pool_refuses_at_once_and_the_others_go_on() -> None:
    pool = WorkerPool(1)
    async with Bridge(echo, pool=pool) as first:
        with pytest.raises(Overloaded, match="all 1 workers"):
            await Bridge(echo, pool=pool).__aenter__()
        await first.send("audio")
        assert await anext(first) == "Get audio"
    async with Bridge(echo, pool=pool):
        pass


async def test_9_a_tight_reader_lets_the_loop_run() -> None:
    """Taking an item that is there does not yield by itself; a hundred of them must not starve another task."""
    puppet, ticks = Puppet(), 0

    async def neighbour() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await anyio.lowlevel.checkpoint()

    async with Bridge(puppet.start, abort=puppet.abort) as bridge:
        for _ in range(100):
            puppet.say("word")
        await until(lambda: bridge.statistics().outbound_depth == 100)
        task = asyncio.create_task(neighbour())
        for _ in range(100):
            await anext(bridge)
        task.cancel()
    assert ticks >= 5


async def test_10_threads_are_daemons_and_see_the_callers_context() -> None:
    session = contextvars.ContextVar("session", default="nobody's")
    session.set("mine")

    def sdk(_feed: Iterator[object]) -> Iterator[object]:
        yield session.get()
        yield threading.current_thread().daemon

    async with Bridge(sdk) as bridge:
        bridge.end()
        assert [response async for response in bridge] == ["mine", True]


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), asyncio.CancelledError(), SystemExit(1)])
async def test_an_error_that_asyncio_would_misread_comes_as_broken(error: BaseException) -> None:
    def sdk(_feed: Iterator[object]) -> Iterator[object]:
        raise error

    async with Bridge(sdk) as bridge:
        with pytest.raises(Broken) as raised:
            await anext(bridge)
        assert raised.value.__cause__ is error


async def test_a_response_that_arrives_as_its_reader_is_cancelled_goes_to_the_next_reader() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.abort) as bridge:
        reader = asyncio.create_task(bridge.__anext__())
        await until(lambda: bridge._outbound.loop_waiting)
        puppet.say("word")
        await until(lambda: bridge.statistics().yielded)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        heard = reader.result() if not reader.cancelled() else await anext(bridge)
        assert heard == "word"


async def test_pump_leaves_the_input_open_when_its_source_fails() -> None:
    async def source() -> AsyncIterator[str]:
        yield "half"
        raise SdkError

    async with Bridge(echo) as bridge:
        with pytest.raises(SdkError):
            await pump(source(), bridge)
        assert bridge.statistics().state == "open"
        assert await anext(bridge) == "Get half"


async def test_a_bridge_is_used_inside_its_context_and_once() -> None:
    bridge: Bridge[object, object] = Bridge(echo)
    assert bridge.statistics().state == "new"
    with pytest.raises(RuntimeError, match="inside `async with`"):
        await bridge.send(1)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RuntimeError, match="inside `async with`"):
            await anext(bridge)
    async with bridge:
        pass
    with pytest.raises(RuntimeError, match="entered once"):
        await bridge.__aenter__()
