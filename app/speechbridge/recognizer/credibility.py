"""Tells real transcripts from those that the model hallucinates for a noise. Pure.

The voice detector takes some sounds for speech (an organ, a siren, a crowd), and the model always finds words: the same
ones again and again until it is stopped, or "Thank you for watching." for ten seconds of sound. The thresholds were
chosen on 160 utterances of real speech, clean, by telephone and in noise down to 5 dB, and on 25 synthetic sounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.recognizer.voice import FRAME_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechbridge.recognizer.moonshine import Decoded
    from speechbridge.recognizer.utterances import Utterance
    from speechbridge.recognizer.written import Written

CREDIBLE = 0.3  # mean confidence times mean probability of speech; quiet and hoarse speech has at least 0.43
CREDIBLE_SO_FAR = 0.42  # the same for a partial; stricter, as a partial of a noise would have to be withdrawn
SLOWEST = 1.0  # tokens per second of speech, in an utterance of `LONG` or more; people speak 2.7 to 8
LONG = 2.0  # seconds of speech
SHORTEST_LOOP = 9  # tokens
LOOP_SHARE = 0.34  # of distinct tokens; "It was the best of times, it was the worst of times" has 0.43
SAID_TWICE = 0.9  # mean confidence above which a repetition is real; loops of the model have 0.67 to 0.86


def is_credible(utterance: Utterance, decoded: Decoded, least: float = CREDIBLE) -> bool:
    """Tell whether decoded words were really spoken, and not hallucinated for a noise."""
    if not decoded.tokens or not utterance.is_long_enough:
        return False
    seconds = utterance.speech_frames * FRAME_SECONDS
    if seconds >= LONG and (not decoded.is_complete or len(decoded.tokens) < SLOWEST * seconds):
        return False
    if decoded.confidence < SAID_TWICE and is_loop(decoded.tokens):
        return False
    return decoded.confidence * utterance.voice >= least


def is_loop(tokens: Sequence[int]) -> bool:
    """Tell whether the same few tokens repeat again and again."""
    return len(tokens) >= SHORTEST_LOOP and len(set(tokens)) <= LOOP_SHARE * len(tokens)


def without_loop(words: list[Written]) -> list[Written]:
    """Return the words without a repetition at the end: half a word can make a model loop: "of the top of the top"."""
    texts = [word.text.lower() for word in words]
    for length in range(2, len(words) // 2 + 1):
        if texts[-length:] == texts[-2 * length : -length]:
            return without_loop(words[:-length])
    return words
