"""What a drain waits for."""

from __future__ import annotations

import asyncio

from speechbridge.server.held import Held


async def test_it_waits_until_the_last_has_ended() -> None:
    held = Held()
    await held.none()
    with held.one():
        with held.one():
            waiting = asyncio.create_task(held.none())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
