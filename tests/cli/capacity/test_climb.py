"""The number of streams that are carried is found, wherever it is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.cli.capacity.climb import CLOSE, climb
from speechbridge.cli.exits import Failed
from speechbridge.testing.load import Reading


def reading(p99: float, lost: int = 0) -> Reading:
    return Reading(100, lost, 300.0, 0.5, 1.0, p99, p99, 10, 1000, 0.0)


@given(limit=st.integers(1, 3000), most=st.integers(1, 5000), loses=st.booleans())
def test_at_most_a_tenth_more_streams_are_too_many(limit: int, most: int, *, loses: bool) -> None:
    slow = reading(1.0, lost=1) if loses else reading(500.0)
    carried, readings = climb(lambda streams: reading(5.0) if streams <= limit else slow, most, 100.0)
    assert carried <= min(limit, most)
    if carried < most:
        too_many = min(streams for streams in readings if streams > carried)
        assert too_many <= max(CLOSE * carried, carried + 1)
    assert max(readings) <= most
    assert list(readings) == sorted(readings)


def test_a_busy_moment_is_no_limit() -> None:
    moments = itertools.cycle([reading(500.0), reading(5.0)])
    assert climb(lambda _: next(moments), 200, 100.0)[0] == 200


def test_a_machine_that_carries_nothing_is_told() -> None:
    with pytest.raises(Failed, match="too busy to measure"):
        climb(lambda _: reading(500.0), 200, 100.0)
