"""The moments that no stress hits: what happens right before a wait begins, and a cancellation right as it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.channel import BREATH, AsyncQueueShutDown, Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

PATIENCE = 5.0  # seconds; a lost wake-up lasts for ever


def at(moment: str, channel: Channel[int], happen: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen once: before the loop says that it waits, or after its last look whether it must."""
    left = [happen]

    def first(real: Callable[[], object]) -> Callable[[], object]:
        def called() -> object:
            found = real()
            while left:
                left.pop()()
            return found

        return called

    where = {"before": (channel._bell, ["clear"]), "after": (channel._queue.async_q, ["empty", "full"])}
    owner, names = where[moment]
    for name in names:
        monkeypatch.setattr(owner, name, first(getattr(owner, name)))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_happens_while_the_loop_prepares_to_wait_is_not_waited_for(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(PATIENCE):
        empty = Channel[int](1)
        at(moment, empty, lambda: empty.put(1), monkeypatch)
        assert await empty.receive() == 1
        full = Channel[int](1)
        await full.send(1)
        at(moment, full, full.get, monkeypatch)
        await full.send(2)
        for end in (Channel[int].finish, Channel[int].cut):
            ended = Channel[int](1)
            at(moment, ended, lambda end=end, ended=ended: end(ended), monkeypatch)  # type: ignore[misc] # no default is inferred
            with pytest.raises(AsyncQueueShutDown):
                await ended.receive()


@pytest.mark.parametrize("items_before", range(BREATH))
async def test_a_send_that_is_cancelled_has_put_nothing_and_a_receive_has_taken_nothing(items_before: int) -> None:
    """Now and then one lets the loop run first, and may be cancelled there."""
    for is_send in (True, False):
        channel = Channel[int](2)
        await channel.send(0)
        channel._breath = items_before
        wait: Coroutine[Any, Any, object] = channel.send(1) if is_send else channel.receive()
        waiting = asyncio.create_task(wait)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert channel.depth == (1 if waiting.cancelled() else 2 * is_send)
