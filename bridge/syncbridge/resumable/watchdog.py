"""Decides when an attempt is stuck. Pure: it is told of events and of the time, and asks for neither.

An attempt is stuck when, for `silence` seconds and without any answer,

- speech that it was given waits for one, or
- its SDK does not come back for input, as it is blocked with what it took last, or
- it does not end, although its input was ended by a rotation, and no speech waits: the next attempt has to begin;

and when its last words, the responses after the end of its input, bring nothing new for `answer` seconds.

Whether speech waits is the hard part, because to look for speech costs much more than all else here. So nobody looks
before the time for an answer is over: most input is answered long before. The states:

    IDLE       no answer is expected
    UNJUDGED   an answer is expected if there is speech in what waits; nobody has looked yet
    WAITING    there is speech in it
    STUCK      something took too long: the attempt is to be aborted

Each state has a row below, each event that may happen in it an entry.
"""

from __future__ import annotations

import math
from enum import StrEnum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class State(StrEnum):
    """What is known of the input that the attempt has not answered."""

    IDLE = auto()
    UNJUDGED = auto()
    WAITING = auto()
    STUCK = auto()


class Event(StrEnum):
    """What happens to an attempt."""

    ASKED = auto()  # it was given input, or its input ended, or there is no room for more before it answers
    ANSWER = auto()  # it gave a response, whatever it is
    SILENCE = auto()  # no speech was found in what waits
    SPEECH = auto()  # speech was found
    LATE = auto()  # something took too long


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.IDLE: {
        Event.ASKED: State.UNJUDGED,
        Event.ANSWER: State.IDLE,
        Event.LATE: State.STUCK,
    },
    State.UNJUDGED: {
        Event.ASKED: State.UNJUDGED,
        Event.ANSWER: State.IDLE,
        Event.SILENCE: State.IDLE,
        Event.SPEECH: State.WAITING,
        Event.LATE: State.STUCK,
    },
    State.WAITING: {
        Event.ASKED: State.WAITING,
        Event.ANSWER: State.IDLE,
        Event.LATE: State.STUCK,
    },
    State.STUCK: {
        Event.ASKED: State.STUCK,
        Event.ANSWER: State.STUCK,
    },
}


class Watchdog:
    """Watches one attempt. Positions are in bytes, times in seconds of one clock.

    None for `silence` or `answer` is for ever. `mute` is how many attempts before this one were stuck, in a row, and
    never answered. Perhaps there was nothing to answer (music is loud, too), so from the third mute attempt on, each
    has twice the time of the one before. `last_words_due` is given if the input ended before this attempt began.
    """

    def __init__(
        self, silence: float | None, answer: float | None = None, mute: int = 0, last_words_due: float = math.inf
    ) -> None:
        self.state = State.IDLE
        self.mute = mute  # attempts in a row, this one included once it is stuck
        self.last_words_due = last_words_due
        self.why = ""  # it is stuck, in words
        self.silence = math.inf if silence is None else silence
        self._answer = math.inf if answer is None else answer
        self._must_answer = False  # it gets no more input before it answers: the input has ended, or there is no room
        self._another_follows = False  # its input has ended, but not the stream's
        self._from = 0  # where the input that waits begins
        self._since = 0.0  # when it was given
        self._blocked_since = math.inf  # when the SDK took input or gave an answer; infinite while it waits for input

    @property
    def due(self) -> float:
        """Return when `look` is to be called."""
        if self.state is State.STUCK:
            return math.inf
        due = min(self._blocked_since + self._patience, self.last_words_due)
        if self.state is State.UNJUDGED:
            # Too early, if silence came before the speech. But later the speech may be evicted, and what came after it
            # is younger.
            due = min(due, self._since + self.silence)
        elif self.state is State.WAITING:
            due = min(due, self._since + self._patience)
        return due

    @property
    def _patience(self) -> float:
        return self.silence * (1 << max(0, self.mute - 1))

    def given(self, position: int, now: float) -> bool:
        """Note that the SDK takes input, and where that begins. Returns whether `due` may be earlier now."""
        self._blocked_since = now
        self._must_answer = False
        return self.asked(position, now)

    def came_back(self) -> None:
        """Note that the SDK asks for more input."""
        self._blocked_since = math.inf

    def no_room(self, position: int, now: float) -> bool:
        """Note that there is no more input for it before some is settled. Returns what `asked` does."""
        self._must_answer = True
        return self.asked(position, now)

    def asked(self, position: int, now: float) -> bool:
        """Note that an answer is expected to what begins at a position. Returns whether `due` may be earlier now."""
        if self.state is State.UNJUDGED:
            self._from = min(self._from, position)
        if self.state is not State.IDLE:
            return False
        self._from, self._since = position, now
        self._enter(Event.ASKED)
        return True

    def ended(self, position: int, now: float, *, another_follows: bool = False) -> None:
        """Note that the attempt's input has ended, and that all from a position on is still to be settled."""
        self._another_follows = another_follows
        self._must_answer = True
        self.came_back()
        self.last_words_due = min(self.last_words_due, now + self._answer)
        self.asked(position, now)
        if self.state is State.UNJUDGED:
            self._since = now  # what was answered by a partial waits for its final from now on

    def answered(self, position: int, now: float) -> bool:
        """Note a response, and that all from a position on is still to be settled. Returns what `asked` does."""
        self.mute = 0
        if self._blocked_since < math.inf:
            self._blocked_since = now
        if self.state is not State.IDLE:
            self._enter(Event.ANSWER)
        return self._must_answer and self.asked(position, now)  # a partial is not enough then

    def settled(self, now: float) -> None:
        """Note that a response settled more than was settled before."""
        if self.last_words_due < math.inf:
            self.last_words_due = now + self._answer

    def postpone(self, now: float) -> None:
        """Note that the SDK could not go on, as a response of its own waits for its reader."""
        self._since = now
        self._blocked_since = now if self._blocked_since < math.inf else math.inf
        self.settled(now)

    def look(self, now: float, first_speech: Callable[[int], float | None]) -> bool:
        """Decide whether the attempt is stuck, once `due` has come. Returns True once.

        `first_speech` returns when the first speech from a position on was given, None if there was none.
        """
        if now < self.due:
            return False
        why = self._why(now)
        if not why and self.state is State.UNJUDGED:
            why = self._judge(first_speech)
        if not why and self.state is State.WAITING and now >= self.due:
            why = f"no answer to speech for {self._patience:g} s"
        if not why:
            return False
        self.why = why
        self.mute += 1
        self._enter(Event.LATE)
        return True

    def _judge(self, first_speech: Callable[[int], float | None]) -> str:
        """Look for speech in what waits. Returns why the attempt is stuck although there is none."""
        given = first_speech(self._from)
        if given is not None:
            self._since = max(self._since, given)
            self._enter(Event.SPEECH)
        elif self._another_follows:
            return f"all was answered, and it did not end for {self.silence:g} s"
        else:
            self._enter(Event.SILENCE)
        return ""

    def _why(self, now: float) -> str:
        """Return why it is stuck, if that is so whether there was speech or not."""
        if now >= self.last_words_due:
            return f"the input ended, and for {self._answer:g} s nothing new came"
        if now >= self._blocked_since + self._patience:
            return f"no answer, and no more input taken, for {self._patience:g} s"
        return ""

    def _enter(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state][event]
