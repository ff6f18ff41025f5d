"""Turns decoded utterances into partials and finals: selects the words, and adds times and punctuation.

`Hypotheses` has no state, so decoding threads may share one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.audio import RATE
from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.recognizer.credibility import CREDIBLE_SO_FAR, is_credible, without_loop
from speechbridge.recognizer.disfluencies import without_disfluencies
from speechbridge.recognizer.moonshine import Decoded
from speechbridge.recognizer.profanity import masked
from speechbridge.recognizer.steadiness import is_steady
from speechbridge.recognizer.voice import FRAME_SECONDS
from speechbridge.recognizer.written import Written, final_elements, partial_elements, plain, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechbridge.recognizer.align import Aligner, Times
    from speechbridge.recognizer.moonshine import Moonshine, Samples
    from speechbridge.recognizer.options import StreamOptions
    from speechbridge.recognizer.utterances import Utterance

    Timed = tuple[Written, Times]

# A partial may end in the middle of a word. Measured confidences of last words that changed later: 0.07 to 0.34.
CERTAIN = 0.4
SOFT_START = 0.1  # seconds by which a word may begin before the voice detector detects speech


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Writes the partials and finals of one stream."""

    model: Moonshine
    aligner: Aligner | None  # None: the time of an utterance is divided among its words
    options: StreamOptions

    def decode(self, samples: Samples, guess: tuple[int, ...], checked: Samples) -> Decoded:
        """Decode an utterance. If its part `checked` is a steady sound, return nothing, which saves the CPU."""
        return Decoded() if is_steady(checked) else self.model.decode(samples, guess)

    def partial(self, utterance: Utterance, decoded: Decoded, shown: Sequence[Element] = ()) -> Partial | None:
        """Return the partial of an utterance that continues; None if there is nothing to show.

        `shown` is the partial that the client has. Uncertain last words are left out, unless they are in `shown`.
        """
        is_shown = is_credible(utterance, decoded, CREDIBLE_SO_FAR)
        words = without_loop(written(self.model.words(decoded))) if is_shown else []
        while len(words) > len(shown) and words[-1].confidence < CERTAIN:
            del words[-1]
        cleaned = self._cleaned(list(zip(words, shared_out(utterance, words), strict=True)))
        kept, times = [word for word, _ in cleaned], [times for _, times in cleaned]
        elements = partial_elements(kept, times if self.options.detailed_partials else None)
        return Partial(*self._span(utterance, ()), elements) if elements else None

    def final(self, utterance: Utterance, decoded: Decoded, samples: Samples) -> Final:
        """Return the final of an utterance. It has no elements if nothing was said."""
        words = written(self.model.words(decoded)) if is_credible(utterance, decoded) else []
        cleaned = self._cleaned(self._timed(utterance, words, samples))
        elements = final_elements([word for word, _ in cleaned], [times for _, times in cleaned])
        return Final(*self._span(utterance, [times for word, times in cleaned if word.text]), elements)

    def _timed(self, utterance: Utterance, words: Sequence[Written], samples: Samples) -> list[Timed]:
        texts = [word.text for word in words if word.text]
        found = self.aligner.align(samples, texts) if self.aligner and texts else None
        if found is None:
            return _bounded(list(zip(words, shared_out(utterance, words), strict=True)), utterance, samples)
        start = utterance.start * FRAME_SECONDS
        times, now, timed = iter(found), 0.0, []
        for word in words:
            ts, end_ts = next(times) if word.text else (now, now)
            timed.append((word, (start + ts, start + end_ts)))
            now = end_ts
        return _bounded(timed, utterance, samples)

    def _cleaned(self, timed: list[Timed]) -> list[Timed]:
        if self.options.remove_disfluencies:
            timed = without_disfluencies(timed)
        if self.options.skip_postprocessing:
            timed = [(bare, times) for word, times in timed for bare in plain([word])]
        if self.options.filter_profanity:
            texts = masked([word.text for word, _ in timed])
            timed = [(replace(word, text=text), times) for text, (word, times) in zip(texts, timed, strict=True)]
        offset = self.options.start_ts
        return [(word, (round(offset + ts, 2), round(offset + end_ts, 2))) for word, (ts, end_ts) in timed]

    def _span(self, utterance: Utterance, times: Sequence[Times]) -> Times:
        """Return the span of the words; without words, that from the first to the last frame of speech."""
        if times:
            return times[0][0], times[-1][1]
        first, last = speech_span(utterance)
        return round(self.options.start_ts + first, 2), round(self.options.start_ts + last, 2)


def _bounded(timed: list[Timed], utterance: Utterance, samples: Samples) -> list[Timed]:
    """Limit the times of words to the speech and to the samples.

    The aligner may give the first and the last word some of the silence around them, and the last frame of a stream is
    padded.
    """
    first, last = speech_span(utterance)
    earliest, latest = first - SOFT_START, min(last, utterance.start * FRAME_SECONDS + len(samples) / RATE)
    return [
        (word, (min(max(ts, earliest), latest), min(max(end_ts, earliest), latest))) for word, (ts, end_ts) in timed
    ]


def speech_span(utterance: Utterance) -> Times:
    """Return when the first frame of speech begins and the last one ends, in seconds of the stream."""
    speech = _speech_frames(utterance)
    return speech[0] * FRAME_SECONDS, (speech[-1] + 1) * FRAME_SECONDS


def shared_out(utterance: Utterance, words: Sequence[Written]) -> list[Times]:
    """Divide the frames of speech among the words by their letters: with an average error of 0.12 s.

    Times are in seconds of the stream.
    """
    speech = _speech_frames(utterance)
    weights = [len(word.text) + 1 if word.text else 0 for word in words]
    total, passed, times = sum(weights) or 1, 0, []
    for weight in weights:
        first = speech[min(passed * len(speech) // total, len(speech) - 1)]
        passed += weight
        last = speech[max(passed * len(speech) // total - 1, 0)] if weight else first
        times.append((first * FRAME_SECONDS, (max(first, last) + 1) * FRAME_SECONDS))
    return times


def _speech_frames(utterance: Utterance) -> list[int]:
    found = [utterance.start + nth for nth, is_speech in enumerate(utterance.is_speech) if is_speech]
    return found or [utterance.start]
