"""An SDK that finishes before its input did: some of it was not heard, and that is no success."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from syncbridge import Bridge, BridgeError, Closed, Early, Finished, pump
from tests.helpers.puppet import PATIENCE, Puppet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def numbers(total: int) -> AsyncIterator[int]:
    for number in range(total):
        yield number


async def heard(bridge: Bridge[int, str]) -> list[str]:
    with anyio.fail_after(PATIENCE):
        return [response async for response in bridge]


async def test_14_an_sdk_that_finishes_while_the_input_is_open_is_early() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start) as bridge:
        await bridge.send("unread")
        puppet.say("word")
        puppet.finish()
        assert await anext(bridge) == "word"  # what was said before it still comes
        with pytest.raises(Early, match="1 items were not taken") as raised:
            await anext(bridge)
        assert isinstance(raised.value, BridgeError)
        assert bridge.outcome == Finished()
        with pytest.raises(Closed, match="the SDK has finished"):
            await bridge.send("more")
        assert await pump(numbers(3), bridge) is False
        with pytest.raises(Early):  # and again, for whoever asks again
            await anext(bridge)
    statistics = bridge.statistics()
    assert statistics.sent - statistics.fed == 1  # the loss is counted


@pytest.mark.parametrize(("takes", "is_early"), [(2, True), (3, False)])
async def test_14_after_the_end_it_is_early_if_something_was_not_taken(takes: int, is_early: object) -> None:
    """An SDK need not ask once more to be told of the end, if it took everything that came before."""

    def sdk(feed: Iterator[int]) -> Iterator[str]:
        for _ in range(takes):
            yield str(next(feed))

    async with Bridge(sdk) as bridge:
        await pump(numbers(3), bridge)
        if is_early:
            with pytest.raises(Early, match="1 items were not taken"):
                await heard(bridge)
        else:
            assert await heard(bridge) == ["0", "1", "2"]


async def test_14_an_sdk_that_takes_all_and_waits_for_the_end_is_not_early() -> None:
    def sdk(feed: Iterator[int]) -> Iterator[str]:
        yield str(sum(feed))

    async with Bridge(sdk) as bridge:
        sending = asyncio.create_task(pump(numbers(100), bridge))
        assert await heard(bridge) == ["4950"]
        assert await sending


async def test_14_a_bridge_that_was_cancelled_is_closed_not_early() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.finish) as bridge:
        bridge.cancel()
        with anyio.fail_after(PATIENCE), pytest.raises(Closed):
            await anext(bridge)
