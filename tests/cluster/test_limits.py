"""Limits hold over all replicas as they hold in one process; while Redis is away, each replica counts for itself."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import Excess, Newcomer, Unavailable
from speechbridge.cluster.redis.connection import PATIENCE as REDIS_PATIENCE
from speechbridge.cluster.redis.connection import Redis
from speechbridge.cluster.redis.limits import ALIVE_SECONDS, RedisUse
from speechbridge.protocol.close import CloseCode
from speechbridge.server import replica
from speechbridge.server.admission import Handshake, make_key
from speechbridge.server.limits import Refused
from syncbridge import Overloaded
from tests.cluster.conftest import Clock, Shared
from tests.helpers.puppet import PATIENCE, until
from tests.helpers.redis import redis_server

if TYPE_CHECKING:
    from pathlib import Path

    from speechbridge.server.shared import Alone
    from tests.helpers.redis import RedisServer

ADDRESS, OTHER = "203.0.113.7", "203.0.113.8"


class Crowd:
    """Those who are connected, and the streams that run. It lets them go at the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.leases: list[AsyncExitStack] = []

    async def comes(
        self, alone: Alone, address: str = ADDRESS, key: str = "", *, is_resuming: bool = False
    ) -> CloseCode | int:
        """Connect at a replica; return 0, or the code of the refusal."""
        try:
            lease = await alone.admit(Handshake(address=address, key=key, is_resuming=is_resuming))
        except Refused as refused:
            return refused.close.code
        held = await self.stack.enter_async_context(AsyncExitStack())
        held.enter_context(lease.held())
        self.leases.append(held)
        return 0

    async def begins(self, alone: Alone) -> bool:
        """Begin a stream at a replica; return whether there was a place."""
        held = await self.stack.enter_async_context(AsyncExitStack())
        try:
            await held.enter_async_context(alone.slot())
        except Overloaded:
            return False
        self.leases.append(held)
        return True

    async def leaves(self, which: int = 0) -> None:
        await self.leases.pop(which).aclose()


async def test_connections_of_an_address_are_counted_at_all_replicas(shared: Shared) -> None:
    async with shared.replicas(3, sessions_per_address=2) as (one, two, three), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        assert [await crowd.comes(at) for at in (one, two)] == [0, 0]
        assert [await crowd.comes(at) for at in (one, two, three)] == [CloseCode.CROWDED] * 3
        assert await crowd.comes(three, OTHER) == 0
        await crowd.leaves(0)
        assert await crowd.comes(three) == 0, "at once, at another replica"
        assert await crowd.comes(one) == CloseCode.CROWDED


async def test_a_refusal_says_how_many_there_are_everywhere(shared: Shared) -> None:
    async with shared.replicas(3, sessions_per_address=2) as (one, two, three), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        await crowd.comes(one)
        await crowd.comes(two)
        with pytest.raises(Refused, match="this address has 2 connections: try again when one has ended"):
            await three.admit(Handshake(address=ADDRESS))


async def test_connections_with_a_key_are_counted_at_all_replicas(shared: Shared) -> None:
    (key, line), (_, another) = make_key("alice"), make_key("bob")
    settings = {"api_keys": f"{line},{another}", "sessions_per_key": 2}
    async with shared.replicas(2, **settings) as (one, two), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        assert [await crowd.comes(at, address, key) for at, address in ((one, ADDRESS), (two, OTHER))] == [0, 0]
        assert await crowd.comes(one, OTHER, key) == CloseCode.CROWDED
        assert await crowd.comes(two, ADDRESS, "a guess") == CloseCode.UNAUTHORIZED


async def test_all_connections_and_all_streams_are_totals(shared: Shared) -> None:
    async with shared.replicas(2, max_connections=3, max_sessions=2) as (one, two), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        assert [await crowd.comes(at, "127.0.0.1") for at in (one, two, one, two)] == [0, 0, 0, CloseCode.TOO_MANY]
        if shared.url is None:  # there its pool of threads counts
            return
        assert [await crowd.begins(at) for at in (one, two, one, two)] == [True, True, False, False]
        await crowd.leaves(-1)
        assert [await crowd.begins(at) for at in (one, two)] == [True, False]


async def test_handshakes_are_counted_at_all_replicas_and_wrong_keys_too(shared: Shared) -> None:
    key, line = make_key("alice")
    settings = {"api_keys": line, "handshakes_per_minute": 4}
    async with shared.replicas(2, **settings) as (one, two), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        assert [await crowd.comes(at, ADDRESS, "a guess") for at in (one, two)] == [CloseCode.UNAUTHORIZED] * 2
        assert [await crowd.comes(at, ADDRESS, key) for at in (one, two)] == [0, 0]
        assert [await crowd.comes(at, ADDRESS, "a guess") for at in (one, two)] == [CloseCode.TOO_OFTEN] * 2
        assert [await crowd.comes(at, OTHER, key) for at in (one, two)] == [0, 0]
        assert await crowd.comes(one, OTHER, key) == CloseCode.TOO_OFTEN
        with pytest.raises(Refused, match=r"more than 4 connections a minute from this key: try again in 1[45] s"):
            await one.admit(Handshake(address="203.0.113.9", key=key))


async def test_who_resumes_takes_up_no_place(shared: Shared) -> None:
    async with shared.replicas(2, sessions_per_address=1) as (one, two), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        assert await crowd.comes(one) == 0
        assert [await crowd.comes(at, is_resuming=True) for at in (one, two)] == [0, 0]
        assert await crowd.comes(two) == CloseCode.CROWDED


async def test_of_many_who_come_at_once_as_many_get_in_as_may(shared: Shared) -> None:
    async with shared.replicas(3, sessions_per_address=20) as found, AsyncExitStack() as stack:
        crowd = Crowd(stack)
        codes = await asyncio.gather(*(crowd.comes(found[index % 3]) for index in range(200)))
        assert sorted(codes) == [0] * 20 + [CloseCode.CROWDED] * 180


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_nobody_gets_in_who_may_not_or_is_refused_who_may(shared: Shared, seed: int) -> None:
    chance, most = random.Random(seed), 3
    async with shared.replicas(3, sessions_per_address=most) as found, AsyncExitStack() as stack:
        crowds = {address: Crowd(stack) for address in (ADDRESS, OTHER)}
        for _ in range(120):
            address = chance.choice([*crowds])
            crowd = crowds[address]
            if crowd.leases and chance.random() < 0.4:
                await crowd.leaves(chance.randrange(len(crowd.leases)))
            else:
                expected = 0 if len(crowd.leases) < most else CloseCode.CROWDED
                assert await crowd.comes(chance.choice(found), address) == expected


# ---- what only Redis can do ------------------------------------------------------------------------------------------


async def test_a_redis_that_stands_still_refuses_nobody_and_holds_nobody_up_for_long(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        shared = Shared(server.url)
        async with shared.replicas(2, sessions_per_address=2) as (one, two), AsyncExitStack() as stack:
            crowd = Crowd(stack)
            assert [await crowd.comes(at) for at in (one, two)] == [0, 0]
            server.freeze()
            begun = time.monotonic()
            assert await crowd.comes(one) == 0, "as it has one connection here"
            assert time.monotonic() - begun < replica.PATIENCE + 0.5
            begun = time.monotonic()
            assert [await crowd.comes(one), await crowd.comes(one, OTHER)] == [CloseCode.CROWDED, 0]
            assert time.monotonic() - begun < 0.1, "there was no answer before: nobody waits for it again"
            await crowd.leaves(0)
            server.thaw()
            assert one._replica is not None
            told = one._replica
            await until(lambda: not told._is_unreachable)  # and it is told what has happened meanwhile
            assert [await crowd.comes(at) for at in (one, two)] == [CloseCode.CROWDED] * 2
            await crowd.leaves(0)
            assert await crowd.comes(two) == 0


async def test_at_a_redis_that_stands_still_those_who_come_at_once_are_counted_here(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        shared = Shared(server.url)
        async with shared.replicas(1, sessions_per_address=3) as (one,), AsyncExitStack() as stack:
            crowd = Crowd(stack)
            server.freeze()
            codes = await asyncio.gather(*(crowd.comes(one) for _ in range(10)))
            assert sorted(codes) == [0] * 3 + [CloseCode.CROWDED] * 7
            server.thaw()


async def test_a_redis_that_forgets_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "BEAT_SECONDS", 0.05)
    with redis_server(tmp_path) as server:
        shared = Shared(server.url)
        async with shared.replicas(2, sessions_per_address=1) as (one, two), AsyncExitStack() as stack:
            crowd, redis = Crowd(stack), Redis(server.url, "any")
            assert await crowd.comes(one) == 0
            async with redis.running():
                await redis._client.flushall()
                async with asyncio.timeout(PATIENCE):
                    await redis._client.blpop(["nothing"], timeout=0.5)  # ten beats
            assert await crowd.comes(two) == CloseCode.CROWDED


async def test_one_who_has_gone_while_all_were_asked_has_no_place(shared: Shared) -> None:
    async with shared.replicas(2, sessions_per_address=1) as (one, two), AsyncExitStack() as stack:
        crowd = Crowd(stack)
        for turns in range(12):
            coming = asyncio.create_task(crowd.comes(one))
            for _ in range(turns):
                await asyncio.sleep(0)
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            while crowd.leases:
                await crowd.leaves()
        assert await crowd.comes(two) == 0


async def test_what_a_dead_replica_had_is_free_again_after_15_seconds(server: RedisServer) -> None:
    clock, redis = Clock(), Redis(server.url, "dead")
    dead, alive = RedisUse(redis, 0, clock), RedisUse(redis, 0, clock)
    place = Newcomer((), [("address x", 1)])
    async with redis.running():
        assert await dead.enter({}, [place]) == [None]
        clock.now += ALIVE_SECONDS - 1
        assert await alive.enter({}, [place]) == [Excess("address x", 1)]
        clock.now += 1
        assert await alive.enter({}, [place]) == [None]
        assert ALIVE_SECONDS + replica.BEAT_SECONDS <= 20


async def test_a_call_that_comes_late_changes_nothing(server: RedisServer) -> None:
    redis = Redis(server.url, "late")
    one, two = RedisUse(redis, 0), RedisUse(redis, 0)
    place = Newcomer((), [("address x", 1)])
    async with redis.running():
        await one.enter({}, [])
        late = one._calls
        one._calls = iter([7])  # type: ignore[assignment] # one that was made later, and arrived first
        assert await one.enter({"address x": 0}, []) == []
        one._calls = late
        with pytest.raises(Unavailable):
            await one.enter({"address x": 1}, [])
        assert await two.enter({}, [place]) == [None]


async def test_a_call_that_is_carried_out_twice_takes_one_place(server: RedisServer) -> None:
    redis = Redis(server.url, "twice")
    one, two = RedisUse(redis, 0), RedisUse(redis, 0)
    place = Newcomer((), [("address x", 2)])
    async with redis.running():
        for _ in range(2):
            one._calls = iter([1])  # type: ignore[assignment] # the same call
            assert await one.enter({"address x": 0}, [place]) == [None]
        assert await two.enter({}, [place, place]) == [None, Excess("address x", 2)]


async def test_every_key_of_limits_has_an_expiry(server: RedisServer) -> None:
    redis = Redis(server.url, "expire")
    use = RedisUse(redis, 120)
    async with redis.running():
        await use.enter({"streams": 3}, [Newcomer(["address x"], [("address x", 0), ("service ", 9)])])
        keys = [key async for key in redis._client.scan_iter("*expire*")]
        assert len(keys) == 4
        for key in keys:
            assert 0 < await redis._client.pttl(key) <= 2000 * ALIVE_SECONDS
    assert REDIS_PATIENCE <= replica.PATIENCE
