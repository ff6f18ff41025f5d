"""The watchdog's states: each event in each state, and the times between them."""

from __future__ import annotations

import math

import pytest

from syncbridge.resumable.watchdog import TRANSITIONS, Event, State, Watchdog

SILENCE = 5.0  # seconds

# What leads to each state. The input was given at time 10.
PATHS: dict[State, list[Event]] = {
    State.IDLE: [],
    State.UNJUDGED: [Event.GIVEN],
    State.WAITING: [Event.GIVEN, Event.SPEECH],
    State.STUCK: [Event.GIVEN, Event.SPEECH, Event.OVERDUE],
}

EXPECTED = {
    (State.IDLE, Event.GIVEN): State.UNJUDGED,
    (State.IDLE, Event.ANSWER): State.IDLE,
    (State.UNJUDGED, Event.GIVEN): State.UNJUDGED,
    (State.UNJUDGED, Event.ANSWER): State.IDLE,
    (State.UNJUDGED, Event.SILENCE): State.IDLE,
    (State.UNJUDGED, Event.SPEECH): State.WAITING,
    (State.WAITING, Event.GIVEN): State.WAITING,
    (State.WAITING, Event.ANSWER): State.IDLE,
    (State.WAITING, Event.OVERDUE): State.STUCK,
    (State.STUCK, Event.GIVEN): State.STUCK,
    (State.STUCK, Event.ANSWER): State.STUCK,
}


def happen(dog: Watchdog, event: Event) -> None:
    match event:
        case Event.GIVEN:
            dog.given(100, 10.0)
        case Event.ANSWER:
            dog.answered()
        case Event.SILENCE:
            dog.look(dog.due, lambda _position: None)
        case Event.SPEECH:
            dog.look(dog.due, lambda _position: 12.0)
        case Event.OVERDUE:
            dog.look(dog.due, lambda _position: pytest.fail("it was looked at already"))


def in_state(state: State, mute: int = 0) -> Watchdog:
    dog = Watchdog(SILENCE, mute)
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


def test_nothing_is_decided_before_its_time() -> None:
    dog = in_state(State.UNJUDGED)
    assert dog.due == 10 + SILENCE
    assert not dog.look(dog.due - 0.01, lambda _position: pytest.fail("it is too early to look"))
    assert dog.state is State.UNJUDGED


def test_time_counts_from_the_speech_not_from_the_silence_before_it() -> None:
    asked: list[int] = []
    dog = in_state(State.UNJUDGED)
    assert not dog.look(dog.due, lambda position: asked.append(position) or 12.0)  # type: ignore[func-returns-value]
    assert asked == [100]
    assert dog.due == 12 + SILENCE
    assert dog.look(dog.due, lambda _position: None)


def test_speech_that_has_waited_long_enough_at_the_first_look_is_overdue_at_once() -> None:
    dog = in_state(State.UNJUDGED)
    assert dog.look(dog.due, lambda _position: 9.0)
    assert dog.state is State.STUCK
    assert not dog.look(1000.0, lambda _position: 9.0)  # it is said once


def test_an_answer_ends_the_wait_and_the_next_input_begins_another() -> None:
    dog = in_state(State.WAITING)
    dog.answered()
    dog.given(200, 30.0)
    assert dog.due == 30 + SILENCE


@pytest.mark.parametrize(("mute", "times"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8)])
def test_from_the_third_mute_attempt_on_each_has_twice_the_time(mute: int, times: int) -> None:
    dog = in_state(State.WAITING, mute)
    assert dog.due == 12 + times * SILENCE
    assert dog.look(dog.due, lambda _position: None)
    assert dog.mute == mute + 1
    dog.answered()
    assert dog.mute == 0


def test_without_a_limit_it_is_never_due() -> None:
    dog = Watchdog(None)
    dog.given(0, 10.0)
    assert dog.due == math.inf
