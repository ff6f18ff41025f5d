"""Several tasks may send through one bridge, and several may read."""

from __future__ import annotations

import asyncio

from syncbridge import Bridge, Closed, Limits
from tests.helpers.puppet import PATIENCE, Puppet, until


async def test_13_several_readers_are_all_served() -> None:
    puppet = Puppet()
    async with Bridge(puppet.start, abort=puppet.abort) as bridge, asyncio.timeout(PATIENCE):
        readers = [asyncio.create_task(bridge.__anext__()) for _ in range(3)]
        await until(lambda: bridge._outbound.loop_waiting)
        for word in ("one", "two", "three"):
            puppet.say(word)
        assert set(await asyncio.gather(*readers)) == {"one", "two", "three"}
        readers = [asyncio.create_task(bridge.__anext__()) for _ in range(3)]
        await until(lambda: bridge._outbound.loop_waiting)
        readers[0].cancel()
        bridge.cancel()
        ends = await asyncio.gather(*readers, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError, Closed, Closed]


async def test_13_several_senders_are_all_served_in_any_order() -> None:
    puppet = Puppet()
    async with (
        Bridge(puppet.start, abort=puppet.abort, limits=Limits(inbound=1)) as bridge,
        asyncio.timeout(PATIENCE),
    ):

        async def send(first: int) -> None:
            for number in range(first, first + 50):
                await bridge.send(number)

        senders = [asyncio.create_task(send(first)) for first in (0, 100, 200)]
        await until(lambda: bridge._inbound.loop_waiting)
        puppet.pull()
        await asyncio.gather(*senders)
        bridge.end()
        assert await asyncio.to_thread(puppet.feed_ended.wait, PATIENCE)
        bridge.cancel()
    for first in (0, 100, 200):
        assert [n for n in puppet.taken if isinstance(n, int) and first <= n < first + 100] == [
            *range(first, first + 50)
        ]
    assert len(puppet.taken) == 150
