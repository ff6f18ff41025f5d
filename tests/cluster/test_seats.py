"""How many read a transcript, over all processes on one Redis."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from speechbridge.cluster.redis import seats
from speechbridge.cluster.redis.connection import Redis
from speechbridge.cluster.redis.seats import Seats
from speechbridge.cluster.transcript import Transcript
from speechbridge.tasks import cancel_and_wait
from tests.helpers.puppet import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from typing import Any

    import pytest

    from tests.helpers.redis import RedisServer


@asynccontextmanager
async def process(server: RedisServer, prefix: str) -> AsyncIterator[Seats]:
    """Be one process on this Redis. Leaving is what a kill is to it."""
    redis = Redis(server.url, prefix)
    tasks: list[asyncio.Task[None]] = []

    def begin(running: Coroutine[Any, Any, None], name: str) -> None:
        tasks.append(asyncio.create_task(running, name=name))

    async with redis.running():
        yield Seats(redis, begin)
        await cancel_and_wait(*tasks)


async def test_of_many_who_come_at_once_as_many_enter_as_may(server: RedisServer) -> None:
    prefix = secrets.token_hex(4)
    async with process(server, prefix) as one, process(server, prefix) as other:
        both = [(one, Transcript()), (other, Transcript())]
        entered = await asyncio.gather(*(place.enter("name", read, 7) for place, read in both * 10))
        assert sum(entered) == 7
        assert sum(read.readers for _, read in both) == 7
        redis = one._redis
        assert await redis._client.pttl(redis.key("shares:name:seats")) > 0


async def test_readers_of_a_process_that_died_count_no_longer(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "ALIVE_SECONDS", 0.3)
    monkeypatch.setattr(seats, "BEAT_SECONDS", 0.05)
    prefix, read = secrets.token_hex(4), Transcript()
    async with process(server, prefix) as one, asyncio.timeout(PATIENCE):
        async with process(server, prefix) as other:
            assert await other.enter("name", Transcript(), 1)
            assert not await one.enter("name", read, 1)
        while not await one.enter("name", read, 1):  # noqa: ASYNC110 # nobody tells when it is so
            await asyncio.sleep(0.02)
        assert read.readers == 1
