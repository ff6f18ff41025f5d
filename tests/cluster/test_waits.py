"""The guess of a wait."""

from __future__ import annotations

from speechbridge.cluster.waits import UNKNOWN_SECONDS, waits


def test_those_who_wait_follow_each_other_as_streams_end() -> None:
    assert waits(5, 2, [0.0, 4.0], [10.0]) == [6.0, 10.0, 16.0, 20.0, 26.0]


def test_a_stream_that_lasts_longer_than_others_may_end_at_any_moment() -> None:
    assert waits(2, 1, [50.0], [10.0]) == [1.0, 11.0]


def test_a_lease_that_is_kept_free_for_one_who_is_away_takes_no_time() -> None:
    assert waits(2, 2, [0.0], [10.0]) == [0.0, 10.0]


def test_before_any_stream_has_ended_the_wait_is_a_guess() -> None:
    assert waits(1, 1, [0.0], []) == [UNKNOWN_SECONDS]
    assert waits(0, 1, [0.0], []) == []
