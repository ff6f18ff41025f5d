"""Bytes and messages a second, counted over all workers in memory that they share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import Traffic
from speechbridge.protocol.close import CloseCode
from speechbridge.server.limits import RECENT_SECONDS
from speechbridge.server.workers.rates import Metered, Rates, Rows, rows_of
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def two() -> Iterator[tuple[Rates, Rates]]:
    """One table, as two processes have it."""
    one = Rates.make(rows=4, columns=2)
    other = Rates(os.dup(one.descriptor), rows=4, columns=2)
    yield one, other
    one.close()
    other.close()


def test_what_all_workers_receive_in_a_second_is_added_up(two: tuple[Rates, Rates]) -> None:
    one, other = two
    assert one.count(3, 0, 100, 1, second=7) == (100, 1)
    assert other.count(3, 1, 50, 2, second=7) == (150, 3)
    assert one.count(3, 0, 100, 1, second=7) == (250, 4)
    assert one.count(2, 0, 1, 1, second=7) == (1, 1)
    assert other.count(3, 1, 5, 1, second=8) == (5, 1)
    assert one.count(3, 0, 5, 1, second=8) == (10, 2)


def test_the_limits_of_an_address_are_totals_over_its_connections(two: tuple[Rates, Rates]) -> None:
    limits = Settings.read(bytes_per_second=200, messages_per_second=3)
    here, there = (Metered(table, column, [("address", 1)], limits) for column, table in enumerate(two))
    assert here.count(100, 1, now=5.1) is None
    assert there.count(100, 1, now=5.2) is None
    verdict = here.count(1, 1, now=5.9)
    assert verdict is not None
    assert verdict.code == CloseCode.TOO_MANY_BYTES
    assert there.count(1, 3, now=6.0) is None
    verdict = here.count(1, 1, now=6.1)
    assert verdict is not None
    assert verdict.code == CloseCode.TOO_MANY_MESSAGES


def test_the_last_second_can_be_read_while_the_next_one_is_counted(two: tuple[Rates, Rates]) -> None:
    one, other = two
    one.count(3, 0, 100, 1, second=7)
    other.count(3, 1, 50, 2, second=7)
    other.count(3, 1, 5, 1, second=8)
    assert [one.received(3, second) for second in (6, 7, 8)] == [Traffic(), Traffic(150, 3), Traffic(5, 1)]
    assert one.count(3, 0, 1, 1, second=9) == (1, 1)
    assert one.received(3, 8) == Traffic(5, 1)
    assert one.received(3, 7) == Traffic(50, 2), "too late: one worker has counted the second after the next"


def test_what_other_replicas_received_counts_in_one_second_and_is_not_reported(two: tuple[Rates, Rates]) -> None:
    one, other = two
    one.add_others(3, 7, Traffic(1000, 10))
    assert other.count(3, 1, 50, 2, second=7) == (1050, 12)
    assert one.count(3, 0, 1, 1, second=7) == (1051, 13)
    assert one.received(3, 7) == Traffic(51, 3)
    assert other.count(3, 1, 50, 2, second=8) == (50, 2)
    assert other.count(3, 1, 50, 2, second=9) == (50, 2)
    one.add_others(3, 9, Traffic(1, 1))
    one.add_others(3, 9, Traffic(2, 2))  # instead of the one before
    assert other.count(3, 1, 50, 2, second=9) == (102, 6)


def test_accounts_with_a_row_are_those_whose_traffic_is_exchanged(two: tuple[Rates, Rates]) -> None:
    one, other = two
    rows = Rows(one)
    taken = rows.take(["address a", "key b", "key c"])
    assert taken is not None
    other.count(taken[0], 1, 50, 2, second=20)
    other.count(taken[1], 1, 50, 2, second=20 - RECENT_SECONDS)
    other.count(taken[2], 1, 50, 2, second=20 - RECENT_SECONDS - 1)
    assert rows.received(20) == {"address a": Traffic(50, 2), "key b": Traffic()}
    assert rows.received(19) == {"address a": Traffic(), "key b": Traffic(), "key c": Traffic()}
    rows.free(["key b"])
    rows.add_others(20, {"address a": Traffic(7, 7), "key b": Traffic(7, 7), "unknown": Traffic(7, 7)})
    assert other.count(taken[0], 1, 0, 0, second=20) == (57, 9)
    assert other.count(taken[1], 1, 0, 0, second=20) == (0, 0)


def test_seconds_are_numbered_by_the_clock_that_the_parent_aligned(two: tuple[Rates, Rates]) -> None:
    one, _ = two
    rows = Rows(one)
    taken = rows.take(["key a"])
    assert taken is not None
    rows.align(1000.25)
    descriptor, *place = one.place
    inherited = Rates(os.dup(descriptor), *place)  # type: ignore[arg-type] # as a worker opens it
    limits = Settings.read(bytes_per_second=100)
    worker = Metered(inherited, 1, [("key", taken[0])], limits)
    assert worker.count(60, 1, now=5.7) is None
    assert rows.received(1005) == {"key a": Traffic(60, 1)}
    assert worker.count(60, 1, now=5.8) is None, "its next second has begun"
    assert worker.pause(50, now=5.85) == pytest.approx(0.9)
    inherited.close()


def test_an_account_has_one_row_while_anybody_has_it() -> None:
    rates = Rates.make(rows=3, columns=1)
    rows = Rows(rates)
    taken = rows.take(["address a", "key b"])
    assert taken is not None
    first, second = taken
    assert first != second
    assert rows.take(["address a"]) == [first]
    rows.free(["address a", "key b"])
    assert rows.take(["address a"]) == [first]  # one still has it
    assert rows.take(["c", "d", "e"]) is None
    assert set(rows.take(["c", "d"]) or ()) == {0, 1, 2} - {first}
    rates.close()


def test_an_account_is_not_charged_for_the_traffic_of_another_that_had_its_row(two: tuple[Rates, Rates]) -> None:
    one, other = two
    rows = Rows(one)
    accounts = [f"key {number}" for number in range(one.rows)]
    for row in rows.take(accounts) or ():
        one.count(row, 0, 100, 1, second=7)
        other.count(row, 1, 100, 1, second=7)
    rows.free(accounts[:1])
    taken = rows.take(["key new"])
    assert taken is not None
    assert other.count(taken[0], 1, 5, 1, second=7) == (5, 1)
    taken = rows.take(accounts[1:2])
    assert taken is not None
    assert other.count(taken[0], 1, 5, 1, second=7) == (205, 3), "it has had its row all the time"


def test_nothing_is_counted_where_nothing_is_bounded() -> None:
    assert rows_of(Settings.read()) == 0
    assert rows_of(Settings.read(messages_per_second=9, max_sessions=3)) == 12
