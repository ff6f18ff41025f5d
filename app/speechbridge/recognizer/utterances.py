"""Endpointing: finds where utterances begin and end, from the probability of speech in each frame. Pure.

    quiet --BEGIN_FRAMES of BEGIN_WINDOW are speech--> speech <--a frame of speech-- pause
      ^                                                  |                            ^  |
      |                                                  +---a frame of silence-------+  |
      +------------------------the pause is long enough----------------------------------+

The longer an utterance is, the shorter the pause that ends it. Speech without any pause is cut at the frame where
speech is least probable, and the next utterance begins there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from speechbridge.recognizer.voice import FRAME_SECONDS

SPEECH, SILENCE = (
    0.4,
    0.2,
)  # thresholds with hysteresis: speech begins at the first probability, and ends below the second
BEGIN_FRAMES, BEGIN_WINDOW = 3, 6  # an utterance begins when 3 of the last 6 frames are speech

BEFORE = 0.3  # seconds before the first speech that belong to the utterance: a word may begin softly
AFTER = 0.2  # seconds after the last speech that belong to the utterance
PAUSE = (0.5, 0.2)  # seconds of silence that end an utterance: a short one, and a long one
PAUSE_SHRINKS = (5.0, 15.0)  # seconds of an utterance between which the pause goes from the first to the second
LONGEST = 15.0  # seconds of an utterance; with 30 s, decoding costs two and a half times as much
CUT_WITHIN = 3  # an utterance that is too long is cut within its last third
FEWEST = 4  # frames of speech in an utterance; with fewer it is a click or a cough


def frames(seconds: float) -> int:
    """Return a duration in frames, rounded."""
    return round(seconds / FRAME_SECONDS)


@dataclass(slots=True)
class Utterance:
    """A part of the stream with speech, in frames of the stream. It grows until it ends."""

    start: int
    probabilities: list[float] = field(default_factory=list)  # of speech, for each frame from `start` on
    is_speech: list[bool] = field(default_factory=list)
    silence: int = 0  # frames since the last speech

    @property
    def end(self) -> int:
        """The frame after its last one: `AFTER` seconds after the last speech, or the newest frame."""
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
        """Return a copy of its current state: it grows while a thread decodes the copy."""
        return replace(self, probabilities=[*self.probabilities], is_speech=[*self.is_speech])

    def add(self, probability: float, *, is_speech: bool) -> None:
        """Add a frame."""
        self.probabilities.append(probability)
        self.is_speech.append(is_speech)
        self.silence = 0 if is_speech else self.silence + 1

    def cut(self, at: int) -> Utterance:
        """Keep the first `at` frames; return the rest as an utterance of its own."""
        rest = Utterance(self.start + at)
        for probability, is_speech in zip(self.probabilities[at:], self.is_speech[at:], strict=True):
            rest.add(probability, is_speech=is_speech)
        del self.probabilities[at:], self.is_speech[at:]
        self.silence = 0  # all frames before a cut belong to the utterance
        return rest


class Segmenter:
    """Finds the utterances of one stream."""

    def __init__(self, longest: float = LONGEST) -> None:
        """`longest` is the most seconds of an utterance."""
        self.current: Utterance | None = None
        self._longest = frames(min(longest, LONGEST))
        self._frame = 0  # the next one
        self._free = 0  # the first frame at which a new utterance may begin: the end of the last one
        self._is_speech = False
        self._recent: deque[tuple[float, bool]] = deque(maxlen=BEGIN_WINDOW + frames(BEFORE))

    @property
    def oldest(self) -> int:
        """The first frame whose samples may still be needed."""
        return self.current.start if self.current else max(self._free, self._frame - len(self._recent))

    def add(self, probability: float) -> Utterance | None:
        """Add the next frame; return the utterance if it has ended."""
        self._is_speech = probability >= (SILENCE if self._is_speech else SPEECH)
        self._recent.append((probability, self._is_speech))
        self._frame += 1
        if self.current is None:
            self._begin()
            return None
        self.current.add(probability, is_speech=self._is_speech)
        if self.current.silence >= self._pause(self.current):
            return self._end()
        if len(self.current.probabilities) >= self._longest:
            return self._cut(self.current)
        return None

    def finish(self) -> Utterance | None:
        """End the input; return the current utterance, if there is one."""
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
            self.current.add(frame, is_speech=is_speech)

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
