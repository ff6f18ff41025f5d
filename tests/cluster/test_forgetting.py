"""A Redis that has forgotten everything, as after a restart without its data: nobody gets what another has."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import FULL, HELD, NOT_KNOWN, Answer, Claim, Standing, Terms
from speechbridge.cluster.redis.connection import Redis
from speechbridge.cluster.redis.leases import SETTLE_SECONDS
from tests.cluster.conftest import Shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.cluster import Leases
    from tests.helpers.redis import RedisServer

TWO = Terms(2)
UNPLACED = Answer(Standing.WAITING)


@pytest.fixture
def shared(server: RedisServer) -> Shared:
    return Shared(server.url)


async def forget(shared: Shared) -> None:
    """Have Redis forget all keys of this cluster."""
    redis = Redis(shared.url or "", shared.prefix)
    async with redis.running():
        async for key in redis._client.scan_iter(f"*{shared.prefix}*"):
            await redis._client.delete(key)


@asynccontextmanager
async def two_processes(shared: Shared) -> AsyncIterator[tuple[Leases, Leases]]:
    async with shared.leases(TWO) as one, shared.leases(TWO) as another:
        await another.renew([])
        yield one, another


async def test_no_lease_is_given_until_holders_have_told_of_theirs(shared: Shared) -> None:
    async with two_processes(shared) as (one, another):
        assert await one.ask([Claim("a"), Claim("b")]) == [HELD, HELD]
        await forget(shared)
        assert await another.ask([Claim("c"), Claim("d", "d", joins=True)]) == [NOT_KNOWN, UNPLACED]
        assert await one.renew(["a", "b"]) == set()
        assert await another.ask([Claim("c")]) == [FULL]
        shared.clock.now += SETTLE_SECONDS
        assert await another.ask([Claim("c")]) == [FULL]
        assert (await another.ask([Claim("d", "d")]))[0].place == 1


async def test_what_nobody_holds_is_free_afterwards(shared: Shared) -> None:
    async with two_processes(shared) as (one, another):
        await one.ask([Claim("a"), Claim("b")])
        await forget(shared)
        assert await one.renew(["a"]) == set()
        shared.clock.now += SETTLE_SECONDS
        assert await another.ask([Claim("c"), Claim("d")]) == [HELD, FULL]


async def test_those_who_wait_have_their_places_again(shared: Shared) -> None:
    """Whoever asks first, and also if somebody new came meanwhile. No place is told before all could ask."""
    async with two_processes(shared) as (one, another):
        await one.ask([Claim("a"), Claim("b")])
        claims = [Claim(f"holder of {ticket}", ticket, joins=True) for ticket in "cde"]
        turns = [answer.turn for answer in await another.ask(claims)]
        c, d, e = (Claim(f"holder of {ticket}", ticket, turn=turn) for ticket, turn in zip("cde", turns, strict=True))
        await forget(shared)
        shared.clock.now += 0.5
        assert await another.ask([Claim("f", "f", joins=True)]) == [UNPLACED]
        assert await another.ask([e, c]) == [UNPLACED, UNPLACED]
        await one.renew(["a", "b"])
        shared.clock.now += SETTLE_SECONDS - 1
        assert await another.ask([d]) == [UNPLACED]
        shared.clock.now += 1
        found = await another.ask([Claim("f", "f"), e, d, c])
        assert [answer.place for answer in found] == [4, 3, 2, 1]


async def test_one_who_asks_again_only_later_is_the_last(shared: Shared) -> None:
    """Otherwise the places of others would rise, who were told theirs."""
    async with two_processes(shared) as (one, another):
        await one.ask([Claim("a"), Claim("b")])
        first = (await another.ask([Claim("c", "c", joins=True)]))[0]
        await forget(shared)
        await one.renew(["a", "b"])
        shared.clock.now += SETTLE_SECONDS
        assert (await one.ask([Claim("d", "d", joins=True)]))[0].place == 1
        assert (await another.ask([Claim("c", "c", turn=first.turn)]))[0].place == 2


async def test_a_first_process_need_not_wait(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        assert await leases.ask([Claim("a"), Claim("b"), Claim("c")]) == [HELD, HELD, FULL]


async def test_a_process_that_was_killed_and_its_lease_forgotten_can_be_followed(shared: Shared) -> None:
    """Its holder is asked for until it may be had: what is not known is not refused for good."""
    async with two_processes(shared) as (one, another):
        await one.ask([Claim("a")])
        await forget(shared)
        assert await another.ask([Claim("a")]) == [NOT_KNOWN]
        shared.clock.now += SETTLE_SECONDS
        assert await another.ask([Claim("a")]) == [HELD]
