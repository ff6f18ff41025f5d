"""The leases of an account and the queue for them: the same in memory and in Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from speechbridge.cluster import FULL, HELD, TAKEN_OVER, Answer, Claim, Standing, Terms
from tests.helpers.puppet import PATIENCE

if TYPE_CHECKING:
    from speechbridge.cluster import Leases
    from tests.cluster.conftest import Shared

TWO = Terms(2)


def joining(name: str, holder: str | None = None) -> Claim:
    return Claim(holder or f"holder of {name}", name, joins=True)


def asking(name: str, holder: str | None = None) -> Claim:
    return Claim(holder or f"holder of {name}", name)


async def places(leases: Leases, *claims: Claim) -> list[int | Standing]:
    """Ask, and return the places; or how those stand who have none."""
    return [answer.place or answer.standing for answer in await leases.ask(claims)]


async def test_so_many_leases_are_given_and_no_more(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        assert await leases.ask([Claim("a"), Claim("b"), Claim("c")]) == [HELD, HELD, FULL]
        await leases.release("a")
        assert await leases.ask([Claim("c"), Claim("a")]) == [HELD, FULL]


async def test_one_who_has_a_lease_and_asks_again_has_one_still(shared: Shared) -> None:
    """As when the answer was lost."""
    async with shared.leases(TWO) as leases:
        assert await leases.ask([Claim("a"), Claim("a")]) == [HELD, HELD]
        assert await leases.ask([joining("b")]) == [HELD]
        assert await leases.ask([joining("b"), Claim("c")]) == [HELD, FULL]


async def test_those_who_wait_are_served_in_the_order_in_which_they_came(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b")])
        assert await places(leases, joining("c"), joining("d")) == [1, 2]
        assert await places(leases, joining("e")) == [3]
        await leases.release("a")
        assert await places(leases, asking("e"), asking("d"), asking("c")) == [2, 1, Standing.HELD]


async def test_nobody_overtakes_the_queue(shared: Shared) -> None:
    """Also not while the first of it has not asked yet."""
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c")])
        await leases.release("a")
        assert await places(leases, Claim("d"), joining("e")) == [Standing.FULL, 2]
        assert await places(leases, asking("c")) == [Standing.HELD]


async def test_a_lease_that_is_not_renewed_is_free_again(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b")])
        shared.clock.now += 17
        assert await leases.renew(["b"]) == set()
        shared.clock.now += 2
        assert await leases.ask([Claim("c"), Claim("d")]) == [HELD, FULL]


async def test_a_lease_that_was_forgotten_is_had_again_unless_another_has_it(shared: Shared) -> None:
    """A holder has hung up before its lease expires: one that renews later was forgotten, as by a restart of Redis."""
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b")])
        shared.clock.now += 19
        await leases.ask([Claim("c")])
        assert await leases.renew(["a", "b", "c"]) == {"b"}
        assert await leases.ask([Claim("d")]) == [FULL]
        assert await leases.ask([Claim("d")]) == [FULL]


async def test_a_ticket_keeps_its_place_while_its_client_is_away(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c"), joining("d")])
        shared.clock.now += 10
        assert await places(leases, asking("d")) == [2]
        shared.clock.now += 1
        assert await places(leases, joining("c", "another connection")) == [1]


async def test_the_time_that_a_ticket_has_waited_counts_over_all_its_connections(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c")])
        shared.clock.now += 10
        (answer,) = await leases.ask([joining("c", "another connection")])
        assert (answer.place, answer.waited) == (1, 10.0)


async def test_a_ticket_keeps_its_turn_while_its_client_is_away(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c"), joining("d")])
        await leases.release("a")
        assert await places(leases, asking("d")) == [2]
        assert await places(leases, joining("c", "another connection")) == [Standing.HELD]


async def test_a_ticket_of_one_who_does_not_come_back_is_given_up(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c"), joining("d")])
        shared.clock.now += 11
        await leases.ask([asking("d")])
        await leases.release("a")
        shared.clock.now += 2
        assert await places(leases, asking("d"), joining("c")) == [Standing.HELD, 1]


async def test_a_connection_whose_ticket_another_took_over_is_told(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c")])
        await leases.ask([joining("c", "another connection")])
        assert await leases.ask([asking("c")]) == [TAKEN_OVER]
        await leases.leave(asking("c"))
        assert await places(leases, asking("c", "another connection")) == [1]


async def test_a_ticket_that_nobody_knows_is_none(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        assert await leases.ask([asking("c")]) == [TAKEN_OVER]


async def test_one_who_leaves_gives_its_place_up(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c"), joining("d")])
        await leases.leave(asking("c"))
        await leases.leave(Claim("a"))
        assert await places(leases, asking("d")) == [1]


async def test_the_wait_is_told_from_how_long_streams_last(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        for _ in range(3):
            await leases.ask([Claim("a")])
            shared.clock.now += 9
            await leases.release("a")
        await leases.ask([Claim("a")])
        shared.clock.now += 3
        await leases.ask([Claim("b")])
        waiting = [joining(name) for name in "cde"]
        assert await leases.ask(waiting) == [Answer(Standing.WAITING, n, s) for n, s in ((1, 6.0), (2, 9.0), (3, 15.0))]


async def test_what_is_given_up_wakes_those_who_wait(shared: Shared) -> None:
    async with shared.leases(TWO) as leases:
        await leases.ask([Claim("a"), Claim("b"), joining("c")])
        for give_up in (leases.release("a"), leases.leave(asking("c"))):
            change = asyncio.create_task(leases.changed())
            await asyncio.sleep(0.05)  # so that Redis has the subscription: `changed` may miss what came before it
            await give_up
            async with asyncio.timeout(PATIENCE):
                await change
