"""Decides when an attempt is stuck: it was given speech, and has not answered for too long.

Pure: it is told of events and of the time, and asks for neither. Whoever shares one guards it. The states:

    IDLE       nothing waits for an answer
    UNJUDGED   input waits for an answer; nobody has looked yet whether there is speech in it
    WAITING    speech waits for an answer
    STUCK      the answer is overdue: the attempt is to be aborted

Each state has a row below, each event that may happen in it an entry. To look for speech costs much more than all else
here, so nobody looks before the time for an answer is over: most input is answered long before.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class State(Enum):
    """What is known of the input that the attempt was given."""

    IDLE = auto()
    UNJUDGED = auto()
    WAITING = auto()
    STUCK = auto()


class Event(Enum):
    """What happens to an attempt."""

    GIVEN = auto()  # it was given input
    ANSWER = auto()  # it gave a response, whatever it is
    SILENCE = auto()  # no speech was found in what waits
    SPEECH = auto()  # speech was found
    OVERDUE = auto()  # the speech has waited too long


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.IDLE: {
        Event.GIVEN: State.UNJUDGED,
        Event.ANSWER: State.IDLE,
    },
    State.UNJUDGED: {
        Event.GIVEN: State.UNJUDGED,
        Event.ANSWER: State.IDLE,
        Event.SILENCE: State.IDLE,
        Event.SPEECH: State.WAITING,
    },
    State.WAITING: {
        Event.GIVEN: State.WAITING,
        Event.ANSWER: State.IDLE,
        Event.OVERDUE: State.STUCK,
    },
    State.STUCK: {
        Event.GIVEN: State.STUCK,
        Event.ANSWER: State.STUCK,
    },
}


class Watchdog:
    """Watches one attempt. Positions are in bytes, times in seconds of one clock.

    `silence` is how long speech may wait for an answer; None: for ever. `mute` is how many attempts before this one
    were stuck, in a row, without any answer. Perhaps there was nothing to answer (music is loud, too), so from the
    third mute attempt on, each has twice the time of the one before.
    """

    def __init__(self, silence: float | None, mute: int = 0) -> None:
        self.state = State.IDLE
        self.due = math.inf  # when to call `look`
        self.mute = mute  # attempts in a row, this one included once it is stuck
        self._silence = math.inf if silence is None else silence
        self._from = 0  # where the input that waits begins
        self._since = 0.0  # when it was given

    def given(self, position: int, now: float) -> None:
        """Note that input which begins at a position was given."""
        if self.state is State.IDLE:
            self._from, self._since = position, now
            # The look may come earlier than the answer is due: by then the speech could be evicted, and what came
            # after it is younger.
            self.due = now + self._silence
        self._enter(Event.GIVEN)

    def answered(self) -> None:
        """Note a response."""
        self.mute = 0
        self.due = math.inf
        self._enter(Event.ANSWER)

    def look(self, now: float, first_speech: Callable[[int], float | None]) -> bool:
        """Decide whether the attempt is stuck. Returns True once.

        `first_speech` returns when the first speech from a position on was given, None if there was none. It is asked
        only once an answer is overdue.
        """
        if now < self.due:
            return False
        if self.state is State.UNJUDGED:
            given = first_speech(self._from)
            if given is None:
                self.due = math.inf
                self._enter(Event.SILENCE)
                return False
            self.due = max(self._since, given) + self._silence * (1 << max(0, self.mute - 1))
            self._enter(Event.SPEECH)
        if now < self.due:
            return False
        self.mute += 1
        self.due = math.inf
        self._enter(Event.OVERDUE)
        return True

    def _enter(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state][event]
