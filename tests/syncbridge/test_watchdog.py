"""The watchdog's states: each event in each state, and the times between them."""

from __future__ import annotations

import math

import pytest

from syncbridge.resumable.watchdog import TRANSITIONS, Event, State, Watchdog

SILENCE, ANSWER = 5.0, 30.0  # seconds

# What leads to each state. The input was given at time 10, and its speech at 12.
PATHS: dict[State, list[Event]] = {
    State.IDLE: [],
    State.UNJUDGED: [Event.ASKED],
    State.WAITING: [Event.ASKED, Event.SPEECH],
    State.STUCK: [Event.ASKED, Event.SPEECH, Event.LATE],
}

EXPECTED = {
    (State.IDLE, Event.ASKED): State.UNJUDGED,
    (State.IDLE, Event.ANSWER): State.IDLE,
    (State.IDLE, Event.LATE): State.STUCK,
    (State.UNJUDGED, Event.ASKED): State.UNJUDGED,
    (State.UNJUDGED, Event.ANSWER): State.IDLE,
    (State.UNJUDGED, Event.SILENCE): State.IDLE,
    (State.UNJUDGED, Event.SPEECH): State.WAITING,
    (State.UNJUDGED, Event.LATE): State.STUCK,
    (State.WAITING, Event.ASKED): State.WAITING,
    (State.WAITING, Event.ANSWER): State.IDLE,
    (State.WAITING, Event.LATE): State.STUCK,
    (State.STUCK, Event.ASKED): State.STUCK,
    (State.STUCK, Event.ANSWER): State.STUCK,
}


def nobody_looks(_position: int) -> float | None:
    pytest.fail("to look for speech is expensive, and needless here")


def no_speech(_position: int) -> float | None:
    return None


def happen(dog: Watchdog, event: Event) -> None:
    match event:
        case Event.ASKED:
            dog.given(100, 10.0)
            dog.came_back()
        case Event.ANSWER:
            dog.answered(100, 11.0)
        case Event.SILENCE:
            dog.look(dog.due, no_speech)
        case Event.SPEECH:
            dog.look(dog.due, lambda _position: 12.0)
        case Event.LATE if dog.state is State.WAITING:
            dog.look(dog.due, nobody_looks)
        case Event.LATE:  # its last words are, whatever it was given before
            dog.last_words_due = 14.0
            dog.look(dog.due, nobody_looks)


def in_state(state: State, mute: int = 0) -> Watchdog:
    dog = Watchdog(SILENCE, ANSWER, mute)
    for event in PATHS[state]:
        happen(dog, event)
    assert dog.state is state
    return dog


def test_the_table_is_this_one() -> None:
    assert {(state, event): then for state, row in TRANSITIONS.items() for event, then in row.items()} == EXPECTED
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "event"), EXPECTED)
def test_each_event_leads_where_the_table_says(state: State, event: Event) -> None:
    dog = in_state(state)
    happen(dog, event)
    assert dog.state is EXPECTED[state, event]


@pytest.mark.parametrize("state", State)
def test_it_is_due_exactly_while_something_waits(state: State) -> None:
    assert math.isfinite(in_state(state).due) == (state in {State.UNJUDGED, State.WAITING})


# ---- speech without an answer ----------------------------------------------------------------------------------------


def test_nothing_is_decided_before_its_time() -> None:
    dog = in_state(State.UNJUDGED)
    assert dog.due == 10 + SILENCE
    assert not dog.look(dog.due - 0.01, nobody_looks)
    assert dog.state is State.UNJUDGED


def test_time_counts_from_the_speech_not_from_the_silence_before_it() -> None:
    asked: list[int] = []
    dog = in_state(State.UNJUDGED)
    assert not dog.look(dog.due, lambda position: asked.append(position) or 12.0)  # type: ignore[func-returns-value]
    assert asked == [100]
    assert dog.due == 12 + SILENCE
    assert dog.look(dog.due, nobody_looks)
    assert "no answer to speech for 5 s" in dog.why


def test_speech_that_has_waited_long_enough_at_the_first_look_is_late_at_once() -> None:
    dog = in_state(State.UNJUDGED)
    assert dog.look(dog.due, lambda _position: 9.0)
    assert dog.state is State.STUCK
    assert not dog.look(1000.0, nobody_looks)  # it is said once


def test_an_answer_ends_the_wait_and_the_next_input_begins_another() -> None:
    dog = in_state(State.WAITING)
    dog.answered(200, 20.0)
    assert dog.given(200, 30.0)
    assert dog.due == 30 + SILENCE


@pytest.mark.parametrize(("mute", "times"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8)])
def test_from_the_third_mute_attempt_on_each_has_twice_the_time(mute: int, times: int) -> None:
    dog = in_state(State.WAITING, mute)
    assert dog.due == 12 + times * SILENCE
    assert dog.look(dog.due, nobody_looks)
    assert dog.mute == mute + 1
    dog.answered(100, 60.0)
    assert dog.mute == 0


def test_while_there_is_no_room_each_answer_begins_another_wait_until_input_is_given_again() -> None:
    """No input comes that it could be asked about, and a partial makes no room."""
    dog = Watchdog(SILENCE)
    assert dog.no_room(0, 10.0)
    assert dog.answered(0, 13.0)
    assert dog.due == 13 + SILENCE
    dog.given(200, 20.0)
    dog.came_back()
    assert not dog.answered(100, 21.0)
    assert dog.due == math.inf


# ---- an SDK that does not come back ----------------------------------------------------------------------------------


def test_an_sdk_that_is_blocked_with_silence_is_late_too() -> None:
    """What comes next may be speech, and it would never be given."""
    dog = Watchdog(SILENCE)
    dog.given(0, 10.0)
    assert dog.look(10 + SILENCE, no_speech)
    assert "no more input taken" in dog.why


def test_an_sdk_that_is_blocked_but_answers_is_not_late() -> None:
    dog = Watchdog(SILENCE)
    dog.given(0, 10.0)
    dog.answered(0, 14.0)
    assert dog.due == 14 + SILENCE
    assert not dog.look(10 + SILENCE, nobody_looks)
    assert dog.look(14 + SILENCE, nobody_looks)


def test_an_sdk_that_waits_for_input_is_never_late() -> None:
    dog = Watchdog(SILENCE)
    dog.given(0, 10.0)
    dog.came_back()
    dog.answered(0, 14.0)
    assert dog.due == math.inf


def test_an_sdk_whose_response_waits_for_its_reader_gets_its_time_again() -> None:
    dog = Watchdog(SILENCE, ANSWER)
    dog.given(0, 10.0)
    dog.postpone(15.0)
    assert dog.due == 15 + SILENCE
    dog.ended(0, 16.0)
    dog.postpone(40.0)
    assert dog.last_words_due == 40 + ANSWER
    assert dog.due == 40 + SILENCE


# ---- last words ------------------------------------------------------------------------------------------------------


def test_after_the_end_of_the_input_what_is_not_settled_waits_for_an_answer_although_there_was_one() -> None:
    """A partial is an answer to speech, but no final."""
    dog = Watchdog(SILENCE, ANSWER)
    dog.given(0, 10.0)
    dog.answered(0, 11.0)
    dog.ended(50, 12.0)
    asked: list[int] = []
    assert dog.due == 12 + SILENCE
    assert dog.look(dog.due, lambda position: asked.append(position) or 10.0)  # type: ignore[func-returns-value]
    assert asked == [50]


def test_after_the_end_what_a_partial_answered_is_looked_at_too_although_silence_was_given_since() -> None:
    dog = Watchdog(SILENCE, ANSWER)
    dog.given(50, 10.0)
    dog.answered(50, 11.0)
    dog.given(100, 12.0)
    dog.ended(50, 16.0)
    asked: list[int] = []
    assert dog.due == 16 + SILENCE
    assert dog.look(dog.due, lambda position: asked.append(position) or 10.0)  # type: ignore[func-returns-value]
    assert asked == [50]


def test_after_the_end_of_the_input_each_answer_begins_another_wait() -> None:
    dog = Watchdog(SILENCE, ANSWER)
    dog.ended(0, 10.0)
    assert dog.answered(0, 13.0)
    assert dog.due == 13 + SILENCE


def test_last_words_are_bounded_from_the_end_and_from_each_final_whatever_else_is_said() -> None:
    dog = Watchdog(None, ANSWER)
    dog.given(0, 10.0)
    assert dog.due == math.inf
    dog.ended(0, 12.0)
    assert dog.due == 12 + ANSWER
    dog.answered(0, 20.0)
    assert dog.due == 12 + ANSWER
    dog.settled(21.0)
    assert dog.due == 21 + ANSWER
    assert dog.look(dog.due, nobody_looks)
    assert "for 30 s nothing new came" in dog.why


@pytest.mark.parametrize("another_follows", [False, True])
def test_one_that_answered_all_and_does_not_end_is_late_if_another_follows(another_follows: object) -> None:
    """After the stream's own end there is time for last words; after a rotation the next attempt has input to take."""
    dog = Watchdog(SILENCE, ANSWER)
    dog.ended(0, 10.0, another_follows=bool(another_follows))
    dog.answered(0, 11.0)
    assert dog.look(11 + SILENCE, no_speech) == another_follows
    assert dog.why == ("all input was answered, but it did not end for 5 s" if another_follows else "")


def test_a_later_attempt_has_what_is_left_of_the_time() -> None:
    dog = Watchdog(None, ANSWER, last_words_due=15.0)
    dog.ended(0, 12.0)
    assert dog.due == 15.0


def test_a_response_before_the_end_begins_no_last_words() -> None:
    dog = Watchdog(None, ANSWER)
    dog.settled(21.0)
    assert dog.due == math.inf


def test_without_a_limit_it_is_never_due() -> None:
    dog = Watchdog(None)
    dog.given(0, 10.0)
    dog.ended(0, 11.0)
    assert dog.due == math.inf


def test_an_sdk_that_gets_no_more_input_owes_another_answer_after_each() -> None:
    dog = Watchdog(SILENCE, ANSWER)
    dog.no_room(100, 10.0)
    dog.answered(200, 11.0)
    assert dog.due == 11.0 + SILENCE


def test_an_sdk_that_is_given_input_again_owes_no_answer_after_one() -> None:
    dog = Watchdog(SILENCE, ANSWER)
    dog.no_room(100, 10.0)
    dog.given(300, 11.0)
    dog.came_back()
    dog.answered(200, 12.0)
    assert dog.due == math.inf
