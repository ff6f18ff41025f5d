"""The calls in which a replica exchanges its counts of bytes and messages: when, how many, and what a failure does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from speechbridge.cluster import Traffic, Unavailable
from speechbridge.server import traffic
from speechbridge.server.traffic import BATCH, Exchange, exchanging
from speechbridge.settings import Settings
from tests.helpers.puppet import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pytest

    from speechbridge.cluster import Excess, Newcomer

MOST = Traffic(100, 0)
OTHERS = Traffic(70, 7)


class Received:
    """A replica's own traffic."""

    def __init__(self, of: Mapping[str, Traffic]) -> None:
        self.of = dict(of)
        self.offset = 0.0
        self.asked: list[int] = []
        self.others: list[tuple[int, dict[str, Traffic]]] = []

    def align(self, offset: float) -> None:
        self.offset = offset

    def received(self, second: int) -> dict[str, Traffic]:
        self.asked.append(second)
        return self.of

    def add_others(self, second: int, others: Mapping[str, Traffic]) -> None:
        self.others.append((second, dict(others)))


class Calls:
    """Stands in for Redis: notes each call, and answers with OTHERS for each name, once `during` has returned."""

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.seconds: list[int] = []
        self.names: list[list[str]] = []
        self._during = during

    async def exchange(self, second: int, received: Mapping[str, Traffic], most: Traffic) -> dict[str, Traffic]:
        assert most == MOST
        self.seconds.append(second)
        self.names.append([*received])
        self._during()
        return dict.fromkeys(received, OTHERS)

    async def enter(self, own: Mapping[str, int], newcomers: Sequence[Newcomer]) -> list[Excess | None]:
        raise NotImplementedError


class Clocks:
    """A machine's clocks, which a test sets."""

    def __init__(self, monotonic: float, wall: float) -> None:
        self.monotonic, self.wall = monotonic, wall

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds

    def exchange(self, own: Received, use: Calls) -> Exchange:
        return Exchange(own, use, MOST, lambda: self.monotonic, lambda: self.wall)


def many(number: int) -> dict[str, Traffic]:
    """Make traffic of so many names, the last of which has most."""
    return {f"key {index}": Traffic(index, 1) for index in range(number)}


async def test_a_call_reports_the_last_second_by_the_wall_clock_and_others_count_in_this_one() -> None:
    clocks, own, calls = Clocks(5.5, 1000.75), Received({"key a": Traffic(60, 6)}), Calls()
    exchange = clocks.exchange(own, calls)
    assert own.offset == 995.25
    await exchange.once()
    assert (own.asked, calls.seconds) == ([999], [999])
    assert own.others == [(1000, {"key a": OTHERS})]
    clocks.wall += 60  # it jumps
    clocks.passes(1)
    await exchange.once()
    assert (own.asked, calls.seconds) == ([999, 1000], [999, 1060])
    assert own.others[1:] == [(1001, {"key a": OTHERS})]


async def test_without_traffic_there_is_no_call() -> None:
    own, calls = Received({}), Calls()
    await Clocks(5.5, 1000.0).exchange(own, calls).once()
    assert (own.asked, calls.names) == ([999], [])


async def test_many_names_are_exchanged_in_several_calls_those_with_most_traffic_first() -> None:
    own, calls = Received(many(2 * BATCH + 1)), Calls()
    await Clocks(5.0, 1000.0).exchange(own, calls).once()
    assert [len(names) for names in calls.names] == [BATCH, BATCH, 1]
    assert [name for names in calls.names for name in names] == [*own.of][::-1]


async def test_an_answer_that_comes_late_counts_in_the_current_second_and_ends_the_calls() -> None:
    clocks, own = Clocks(5.0, 1000.0), Received(many(2 * BATCH))
    calls = Calls(during=lambda: clocks.passes(1.5))
    await clocks.exchange(own, calls).once()
    assert [len(names) for names in calls.names] == [BATCH], "the rest is left out"
    assert [second for second, _ in own.others] == [1001]


async def test_calls_go_on_after_one_that_redis_did_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, turns = asyncio.Event(), asyncio.sleep

    def during() -> None:
        if len(calls.seconds) == 1:
            raise Unavailable("Redis does not answer")
        answered.set()

    async def sleep(seconds: float) -> None:
        assert 0 < seconds <= 1 + traffic.MARGIN
        await turns(0)

    monkeypatch.setattr(traffic.asyncio, "sleep", sleep)  # type: ignore[attr-defined] # the module's own
    own, calls = Received({"key a": Traffic(60, 6)}), Calls(during)
    async with asyncio.timeout(PATIENCE), exchanging(own, calls, Settings.read(bytes_per_second=100)):
        await answered.wait()


async def test_where_nothing_is_limited_nothing_runs() -> None:
    before = asyncio.all_tasks()
    own, calls = Received({}), Calls()
    async with exchanging(own, calls, Settings.read()):
        assert asyncio.all_tasks() == before
    assert own.offset == 0.0
