"""The pause before the next try: it doubles, has a limit, and is spread over all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speechbridge.backoff import Backoff

BACKOFF = Backoff(first=0.2, longest=5.0)


def test_the_limit_doubles_up_to_the_longest() -> None:
    assert [BACKOFF.limit(failures) for failures in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_pause_is_a_share_of_the_limit_as_chance_has_it() -> None:
    assert BACKOFF.pause(3, lambda: 0.0) == 0.0
    assert BACKOFF.pause(3, lambda: 0.25) == 0.4
    assert BACKOFF.pause(3, lambda: 1.0) == 1.6


def test_pauses_differ_without_anything_injected() -> None:
    assert len({BACKOFF.pause(0) for _ in range(10)}) > 1


@given(st.integers(0, 10**9))
def test_any_number_of_failures_has_a_pause_within_the_limits(failures: int) -> None:
    assert 0.0 <= BACKOFF.pause(failures) <= BACKOFF.longest
