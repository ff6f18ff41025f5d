"""Decides when an attempt is stuck. Pure: its methods are called with events and the time; it reads no clock.

An attempt is stuck when one of these lasts for `silence` seconds, and it gives no response meanwhile:

- it was given speech, and has not answered it;
- its SDK does not ask for more input, because it is blocked with the last chunk;
- it does not end, although a rotation ended its input and no speech is unanswered: the next attempt has to begin.

It is also stuck when, after the end of its input, nothing more is settled for `answer` seconds.

The hard part is to know whether there is speech, because detecting speech costs much more than all else here. So nobody
searches for speech before the time for an answer is over: most input is answered long before. The states:

    IDLE       no answer is expected
    UNJUDGED   an answer is expected if the unanswered input holds speech; nobody has searched it yet
    WAITING    it holds speech
    STUCK      something took too long: the attempt is to be aborted

In the table below each state has a row, with an entry for each event that may happen in it.
"""

from __future__ import annotations

import math
from enum import StrEnum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class State(StrEnum):
    """What is known of the unanswered input."""

    IDLE = auto()
    UNJUDGED = auto()
    WAITING = auto()
    STUCK = auto()


class Event(StrEnum):
    """What happens to an attempt."""

    ASKED = auto()  # it was given input, or its input ended, or there is no room for more before it answers
    ANSWER = auto()  # it gave a response of any kind
    SILENCE = auto()  # no speech was found in the unanswered input
    SPEECH = auto()  # speech was found in it
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

    None for `silence` or `answer` means no limit. `mute` is the number of attempts in a row, just before this one, that
    were stuck and gave no response at all. Perhaps there was nothing to answer (music is as loud as speech), so from
    the third mute attempt on, each has twice the time of the one before. `last_words_due` is the time by which the last
    responses are due, if the input ended before this attempt began.
    """

    def __init__(
        self, silence: float | None, answer: float | None = None, mute: int = 0, last_words_due: float = math.inf
    ) -> None:
        self.state = State.IDLE
        self.mute = mute  # mute attempts in a row; this one is included once it is stuck
        self.last_words_due = last_words_due
        self.why = ""  # the reason, once it is stuck
        self.silence = math.inf if silence is None else silence
        self._answer = math.inf if answer is None else answer
        self._must_answer = False  # it gets no more input before it answers: the input has ended, or there is no room
        self._another_follows = False  # its input has ended, but the stream's has not
        self._from = 0  # the position where the unanswered input begins
        self._since = 0.0  # the time when that input was given
        self._blocked_since = math.inf  # when the SDK took input or gave a response; infinite while it waits for input

    @property
    def due(self) -> float:
        """Return the time at which `look` is to be called."""
        if self.state is State.STUCK:
            return math.inf
        due = min(self._blocked_since + self._patience, self.last_words_due)
        if self.state is State.UNJUDGED:
            # Too early if the speech came after silence; `look` allows for that. Any later, the speech might be evicted
            # already, and the input after it is younger.
            due = min(due, self._since + self.silence)
        elif self.state is State.WAITING:
            due = min(due, self._since + self._patience)
        return due

    @property
    def _patience(self) -> float:
        return self.silence * (1 << max(0, self.mute - 1))

    def given(self, position: int, now: float) -> bool:
        """Note that the SDK takes input that begins at a position. Returns whether `due` may be earlier now."""
        self._blocked_since = now
        self._must_answer = False
        return self.asked(position, now)

    def came_back(self) -> None:
        """Note that the SDK asks for more input."""
        self._blocked_since = math.inf

    def no_room(self, position: int, now: float) -> bool:
        """Note that it gets no more input until some is settled. Returns what `asked` does."""
        self._must_answer = True
        return self.asked(position, now)

    def asked(self, position: int, now: float) -> bool:
        """Note that an answer is expected to the input from a position on. Returns whether `due` may be earlier now."""
        if self.state is State.UNJUDGED:
            self._from = min(self._from, position)
        if self.state is not State.IDLE:
            return False
        self._from, self._since = position, now
        self._enter(Event.ASKED)
        return True

    def ended(self, position: int, now: float, *, another_follows: bool = False) -> None:
        """Note that the attempt's input has ended, and that the input from a position on is not settled yet."""
        self._another_follows = another_follows
        self._must_answer = True
        self.came_back()
        self.last_words_due = min(self.last_words_due, now + self._answer)
        self.asked(position, now)
        if self.state is State.UNJUDGED:
            self._since = now  # input that was answered by a partial waits for its final from now on

    def answered(self, position: int, now: float) -> bool:
        """Note a response, and that the input from a position on is not settled yet. Returns what `asked` does."""
        self.mute = 0
        if self._blocked_since < math.inf:
            self._blocked_since = now
        if self.state is not State.IDLE:
            self._enter(Event.ANSWER)
        return self._must_answer and self.asked(position, now)  # then a partial is not enough

    def settled(self, now: float) -> None:
        """Note that a response settled more than was settled before."""
        if self.last_words_due < math.inf:
            self.last_words_due = now + self._answer

    def postpone(self, now: float) -> None:
        """Note that the SDK cannot go on, because the reader has not taken its latest response yet."""
        self._since = now
        self._blocked_since = now if self._blocked_since < math.inf else math.inf
        self.settled(now)

    def look(self, now: float, first_speech: Callable[[int], float | None]) -> bool:
        """Decide whether the attempt is stuck, at the time `due` or later. Returns True once.

        `first_speech` returns when the first speech at or after a position was given; None if there is none.
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
        """Search the unanswered input for speech. If the attempt is stuck without any, return the reason."""
        given = first_speech(self._from)
        if given is not None:
            self._since = max(self._since, given)
            self._enter(Event.SPEECH)
        elif self._another_follows:
            return f"all input was answered, but it did not end for {self.silence:g} s"
        else:
            self._enter(Event.SILENCE)
        return ""

    def _why(self, now: float) -> str:
        """Return the reason if it is stuck, whether or not there was speech."""
        if now >= self.last_words_due:
            return f"the input ended, and for {self._answer:g} s nothing new came"
        if now >= self._blocked_since + self._patience:
            return f"no response, and no more input taken, for {self._patience:g} s"
        return ""

    def _enter(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state][event]
