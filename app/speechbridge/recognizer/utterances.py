"""Endpointing: where utterances begin and end. Pure: it is given the probability of speech for each frame, in order.

    quiet --BEGIN_FRAMES of BEGIN_WINDOW are speech--> speech <--a frame of speech-- pause
      ^                                                  |                            ^  |
      |                                                  +---a frame of silence-------+  |
      +------------------------the pause is long enough----------------------------------+

The longer somebody has spoken, the shorter the pause that ends the utterance. Somebody who does not pause at all is
cut where speech is least probable, and the next utterance begins there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from speechbridge.recognizer.voice import FRAME_SECONDS

SPEECH, SILENCE = 0.4, 0.2  # probabilities: from the first a frame is speech, below the second it is not
BEGIN_FRAMES, BEGIN_WINDOW = 3, 6  # so many frames of the last so many begin an utterance

BEFORE = 0.3  # seconds that are kept before the first speech: a soft sound may begin a word
AFTER = 0.2  # seconds that are kept after the last speech
PAUSE = (0.5, 0.2)  # seconds of silence that end an utterance: at first, and in the end
PAUSE_SHRINKS = (5.0, 15.0)  # seconds of speech between which the one becomes the other
LONGEST = 15.0  # seconds of an utterance; with 30 s decoding costs two and a half times as much
CUT_WITHIN = 3  # an utterance that is too long is cut in its last third
FEWEST = 4  # frames of speech in an utterance; what has fewer is a click or a cough


def frames(seconds: float) -> int:
    """Return how many frames a time is, to the nearest."""
    return round(seconds / FRAME_SECONDS)


@dataclass(slots=True)
class Utterance:
    """From where to where somebody speaks, in frames of the stream. It grows until it is ended."""

    start: int
    probabilities: list[float] = field(default_factory=list)  # of speech, for each frame from `start` on
    is_speech: list[bool] = field(default_factory=list)
    silence: int = 0  # frames since the last speech

    @property
    def end(self) -> int:
        """The frame after the last one that belongs to it: `AFTER` its last speech, or as far as it was heard."""
        return self.start + len(self.probabilities) - max(0, self.silence - frames(AFTER))

    @property
    def speech_frames(self) -> int:
        return sum(self.is_speech)

    @property
    def voice(self) -> float:
        """The mean probability of speech in its frames of speech."""
        speech = [p for p, is_speech in zip(self.probabilities, self.is_speech, strict=True) if is_speech]
        return sum(speech) / len(speech) if speech else 0.0

    @property
    def is_long_enough(self) -> bool:
        return self.speech_frames >= FEWEST

    def copy(self) -> Utterance:
        """Return it as it is now: it grows while a thread decodes what it was."""
        return replace(self, probabilities=[*self.probabilities], is_speech=[*self.is_speech])

    def hear(self, probability: float, *, is_speech: bool) -> None:
        """Add a frame."""
        self.probabilities.append(probability)
        self.is_speech.append(is_speech)
        self.silence = 0 if is_speech else self.silence + 1

    def cut(self, at: int) -> Utterance:
        """Keep the first `at` frames; return the rest as an utterance of its own."""
        rest = Utterance(self.start + at)
        for probability, is_speech in zip(self.probabilities[at:], self.is_speech[at:], strict=True):
            rest.hear(probability, is_speech=is_speech)
        del self.probabilities[at:], self.is_speech[at:]
        self.silence = 0  # what is cut within speech keeps all its frames
        return rest


class Segmenter:
    """Finds the utterances of one stream."""

    def __init__(self, longest: float = LONGEST) -> None:
        """Take the most seconds that an utterance may last."""
        self.current: Utterance | None = None
        self._longest = frames(min(longest, LONGEST))
        self._frame = 0  # the next one
        self._free = 0  # from which frame on a new utterance may begin: the end of the last one
        self._is_speech = False
        self._recent: deque[tuple[float, bool]] = deque(maxlen=BEGIN_WINDOW + frames(BEFORE))

    @property
    def oldest(self) -> int:
        """The first frame whose samples may still be asked for."""
        return self.current.start if self.current else max(self._free, self._frame - len(self._recent))

    def hear(self, probability: float) -> Utterance | None:
        """Take the next frame; return an utterance that has ended, if one has."""
        self._is_speech = probability >= (SILENCE if self._is_speech else SPEECH)
        self._recent.append((probability, self._is_speech))
        self._frame += 1
        if self.current is None:
            self._begin()
            return None
        self.current.hear(probability, is_speech=self._is_speech)
        if self.current.silence >= self._pause(self.current):
            return self._end()
        if len(self.current.probabilities) >= self._longest:
            return self._cut(self.current)
        return None

    def finish(self) -> Utterance | None:
        """End the input; return the utterance that it was in, if it was in one."""
        return self._end() if self.current else None

    def _begin(self) -> None:
        window = list(self._recent)[-BEGIN_WINDOW:]
        if sum(is_speech for _, is_speech in window) < BEGIN_FRAMES:
            return
        first = next(nth for nth, (_, is_speech) in enumerate(window) if is_speech)
        speech_start = self._frame - len(window) + first
        start = max(self._free, speech_start - frames(BEFORE), self._frame - len(self._recent))
        self.current = Utterance(start)
        for frame, is_speech in list(self._recent)[start - self._frame :]:
            self.current.hear(frame, is_speech=is_speech)

    def _pause(self, utterance: Utterance) -> int:
        (most, least), (begin, end) = PAUSE, PAUSE_SHRINKS
        seconds = len(utterance.probabilities) * FRAME_SECONDS
        passed = min(max((seconds - begin) / (end - begin), 0.0), 1.0)
        return frames(most + (least - most) * passed)

    def _end(self) -> Utterance | None:
        ended, self.current = self.current, None
        if ended:
            self._free = ended.end
        return ended

    def _cut(self, utterance: Utterance) -> Utterance:
        length = len(utterance.probabilities)
        first = length - length // CUT_WITHIN
        at = min(range(first, length), key=utterance.probabilities.__getitem__)
        self.current = utterance.cut(at)
        self._free = self.current.start
        return utterance
