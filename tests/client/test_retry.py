"""What a resumable stream does after a connection, row by row."""

from __future__ import annotations

import pytest

from speechbridge.client.retry import BACKOFF, REPEATS, STEADY_SECONDS, TOO_OFTEN_SECONDS, Next, Retry
from speechbridge.protocol.close import NO_DATA, Close, CloseCode
from speechbridge.protocol.resume import COME_BACK_CODES, NEW_STREAM_CODES, RECONNECT_CODES, UNKNOWN_STREAM

AWAY = 60.0  # seconds
FINAL = set(CloseCode) - {*RECONNECT_CODES, *NEW_STREAM_CODES}


def begun(*, can_restart: bool = True) -> Retry:
    retry = Retry(can_restart=can_restart, away_seconds=AWAY)
    retry.greeted(0.0)
    return retry


@pytest.mark.parametrize("close", [None, *map(Close, CloseCode)])
def test_before_there_was_a_stream_every_failure_is_its_end(close: Close | None) -> None:
    assert Retry(can_restart=True, away_seconds=AWAY).after(close, 0.0, is_resuming=False) is Next.END


@pytest.mark.parametrize("code", [None, *RECONNECT_CODES])
def test_a_lost_connection_is_resumed(code: CloseCode | None) -> None:
    assert begun().after(None if code is None else Close(code), 1.0, is_resuming=False) is Next.RESUME


@pytest.mark.parametrize("code", set(RECONNECT_CODES) - {CloseCode.ABNORMAL, *COME_BACK_CODES})
def test_the_same_close_again_begins_a_new_stream_and_then_ends_it(code: CloseCode) -> None:
    retry = begun()
    decisions = [retry.after(Close(code, "why"), float(n), is_resuming=True) for n in range(REPEATS)]
    assert decisions == [Next.RESUME, Next.RESTART, Next.END]


@pytest.mark.parametrize("code", COME_BACK_CODES)
def test_a_service_that_asks_for_it_is_come_back_to_any_number_of_times(code: CloseCode) -> None:
    retry = begun()
    assert {retry.after(Close(code), 0.0, is_resuming=True) for _ in range(10 * REPEATS)} == {Next.RESUME}


def test_another_close_or_a_final_in_between_makes_it_the_first_again() -> None:
    retry = begun()
    for reason in ("one", "other", "one", "other"):
        assert retry.after(Close(1011, reason), 0.0, is_resuming=True) is Next.RESUME
    for _ in range(REPEATS + 1):
        retry.transcribed(is_final=True)
        assert retry.after(Close(1011, "other"), 0.0, is_resuming=True) is Next.RESUME


def test_no_connection_may_come_any_number_of_times() -> None:
    retry = begun()
    assert {retry.after(None, 0.0, is_resuming=True) for _ in range(10 * REPEATS)} == {Next.RESUME}


@pytest.mark.parametrize("code", NEW_STREAM_CODES)
def test_a_stream_that_the_service_has_ended_is_begun_anew(code: CloseCode) -> None:
    retry = begun()
    assert {retry.after(Close(code), 0.0, is_resuming=False) for _ in range(REPEATS + 1)} == {Next.RESTART}


def test_an_unknown_stream_is_begun_anew_only_if_it_was_to_be_resumed() -> None:
    assert begun().after(Close(UNKNOWN_STREAM), 0.0, is_resuming=True) is Next.RESTART
    assert begun().after(Close(UNKNOWN_STREAM), 0.0, is_resuming=False) is Next.END


@pytest.mark.parametrize("code", FINAL)
def test_any_other_close_is_the_end(code: CloseCode) -> None:
    assert begun().after(Close(code, NO_DATA), 0.0, is_resuming=False) is Next.END


@pytest.mark.parametrize("close", [Close(4013), Close(UNKNOWN_STREAM)])
def test_what_cannot_be_begun_anew_ends_there(close: Close) -> None:
    assert begun(can_restart=False).after(close, 0.0, is_resuming=True) is Next.END


def test_it_ends_when_nothing_has_worked_for_long_counted_from_the_first_failure() -> None:
    retry = begun()
    assert retry.after(None, 10 * AWAY, is_resuming=True) is Next.RESUME  # it was idle, and nothing failed
    assert retry.after(None, 11 * AWAY, is_resuming=True) is Next.RESUME
    assert retry.after(None, 11 * AWAY + 0.1, is_resuming=True) is Next.END


def test_what_was_acknowledged_shows_that_it_works() -> None:
    retry = begun()
    for minute in range(10):
        assert retry.after(None, minute * AWAY, is_resuming=True) is Next.RESUME
        retry.acknowledged()


def test_a_connection_that_lasts_has_worked_although_nothing_was_sent() -> None:
    retry = begun()
    for minute in range(10):
        retry.greeted(minute * AWAY)
        assert retry.after(None, minute * AWAY + STEADY_SECONDS, is_resuming=True) is Next.RESUME


def test_a_service_that_refuses_for_long_is_given_up_although_it_acknowledges_audio() -> None:
    """It has room for a minute of audio, and its speech service does not answer."""
    retry = begun()
    assert retry.after(Close(4013), 0.0, is_resuming=False) is Next.RESTART
    retry.greeted(1.0)
    retry.acknowledged()
    assert retry.after(Close(4013), AWAY + 1, is_resuming=False) is Next.END


def test_a_transcript_in_between_shows_that_the_service_works() -> None:
    retry = begun()
    for minute in range(10):
        assert retry.after(Close(4013), minute * AWAY, is_resuming=False) is Next.RESTART
        retry.transcribed(is_final=False)


def test_restarts_of_the_service_are_followed_however_far_apart() -> None:
    retry = begun()
    for hour in range(10):
        retry.greeted(hour * 3600.0)
        retry.acknowledged()
        assert retry.after(Close(4010), (hour + 1) * 3600.0, is_resuming=False) is Next.RESUME


def test_pauses_grow_with_failures_in_a_row() -> None:
    retry = begun()
    assert [retry.pause(lambda: 1.0) for _ in range(7)] == [BACKOFF.limit(n) for n in range(7)]
    retry.acknowledged()
    assert retry.pause(lambda: 1.0) == BACKOFF.first


def test_after_too_many_handshakes_the_pause_is_long() -> None:
    retry = begun()
    retry.after(Close(CloseCode.TOO_OFTEN), 0.0, is_resuming=True)
    assert retry.pause(lambda: 0.0) == TOO_OFTEN_SECONDS
