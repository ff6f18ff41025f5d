"""Whatever is called in whatever order: what the port promises holds, and both implementations answer the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from speechbridge.cluster import Claim, Standing, Terms
from tests.cluster.conftest import Shared

if TYPE_CHECKING:
    from speechbridge.cluster import Leases
    from tests.helpers.redis import RedisServer

MOST = 2
TERMS = Terms(MOST, lease_seconds=5.0, ticket_seconds=3.0)
names = st.sampled_from("abcde")


class Calls(RuleBasedStateMachine):
    """Calls of connections, each with a ticket of its own or that of another one, against every implementation.

    `held` is when the lease of each holder expires, from what the holder was told; `told` the place of each ticket that
    still waits, and until when it does.
    """

    urls: tuple[str | None, ...]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.shared = [Shared(url) for url in self.urls]
        self.leases: list[Leases] = [
            self.runner.run(self.stack.enter_async_context(one.leases(TERMS))) for one in self.shared
        ]
        self.held: dict[str, float] = {}
        self.told: dict[str, tuple[int, float]] = {}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.stack.aclose())
            self.runner.close()

    @property
    def now(self) -> float:
        return self.shared[0].clock.now

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of each implementation; return the answer of all."""
        first, *others = [self.runner.run(getattr(one, name)(*arguments)) for one in self.leases]
        assert all(other == first for other in others)
        return first

    @rule(claims=st.lists(st.tuples(names, st.none() | names, st.booleans()), min_size=1, max_size=4))
    def ask(self, claims: list[tuple[str, str | None, bool]]) -> None:
        asked = [Claim(holder, ticket, joins and ticket is not None) for holder, ticket, joins in claims]
        told = dict(self.told)
        for claim, answer in zip(asked, self.call("ask", asked), strict=True):
            if answer.standing is Standing.HELD and claim.holder not in self.held:
                self.held[claim.holder] = self.now + TERMS.lease_seconds
                for places in (self.told, told):  # the same ticket may join anew in the same call
                    places.pop(claim.ticket or "", None)
            elif answer.standing is Standing.WAITING:
                place, until = told.get(claim.ticket or "", (answer.place, 0.0))
                assert answer.place <= place or until <= self.now
                self.told[claim.ticket or ""] = answer.place, self.now + TERMS.ticket_seconds

    @rule(holders=st.lists(names, unique=True))
    def renew(self, holders: list[str]) -> None:
        """Renew those leases that have not expired: after that, a holder has hung up."""
        live = [holder for holder in holders if holder in self.held]
        assert self.call("renew", live) == set()
        self.held |= dict.fromkeys(live, self.now + TERMS.lease_seconds)

    @rule(holder=names)
    def release(self, holder: str) -> None:
        self.call("release", holder)
        self.held.pop(holder, None)

    @rule(holder=names, ticket=names)
    def leave(self, holder: str, ticket: str) -> None:
        self.call("leave", Claim(holder, ticket))
        self.told.pop(ticket, None)  # if it was another's it may only fall all the same

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        for one in self.shared:
            one.clock.now += seconds
        self.held = {holder: until for holder, until in self.held.items() if until > self.now}

    @invariant()
    def the_limit_holds(self) -> None:
        assert len(getattr(self, "held", {})) <= MOST


def run(*urls: str | None) -> None:
    machine = type("CallsOfThese", (Calls,), {"urls": urls})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_in_memory() -> None:
    run(None)


@pytest.mark.slow
def test_in_redis_as_in_memory(server: RedisServer) -> None:
    run(None, server.url)
