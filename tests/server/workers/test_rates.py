"""Bytes and messages a second, counted over all workers in memory that they share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.close import CloseCode
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
