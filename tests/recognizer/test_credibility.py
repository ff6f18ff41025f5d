"""What was said, told from what a model makes up for a noise."""

from __future__ import annotations

import pytest

from speechbridge.recognizer.credibility import is_credible, is_loop, without_loop
from speechbridge.recognizer.moonshine import Decoded
from speechbridge.recognizer.tokens import Word
from speechbridge.recognizer.utterances import FEWEST, Utterance, frames
from speechbridge.recognizer.voice import FRAME_SECONDS
from speechbridge.recognizer.written import written


def speech(seconds: float = 3.0, voice: float = 0.9) -> Utterance:
    made = Utterance(0)
    for _ in range(frames(seconds)):
        made.add(voice, is_speech=True)
    return made


def decoded(count: int, confidence: float = 0.9, *, is_complete: bool = True) -> Decoded:
    return Decoded(tuple(range(count)), (confidence,) * count, is_complete)


LOOP = Decoded((1, 2, 3, 4) * 4, (0.8,) * 16)


@pytest.mark.parametrize(
    ("utterance", "found", "credible"),
    [
        (speech(), decoded(12), True),
        (speech(), Decoded(), False),
        (speech(FEWEST * FRAME_SECONDS), decoded(1), True),
        (speech((FEWEST - 1) * FRAME_SECONDS), decoded(1), False),
        (speech(voice=0.6), decoded(12, 0.45), False),
        (speech(voice=0.7), decoded(12, 0.45), True),
        (speech(10.0), decoded(5), False),
        (speech(10.0), decoded(15), True),
        (speech(1.5), decoded(1), True),
        (speech(), decoded(20, is_complete=False), False),
        (speech(1.0), decoded(8, is_complete=False), True),
        (speech(), LOOP, False),
        (speech(), Decoded(LOOP.tokens, (0.95,) * 16), True),
    ],
    ids=[
        "speech",
        "nothing decoded",
        "a short word",
        "a click",
        "unsure of both",
        "sure enough",
        "too slow for speech",
        "slow speech",
        "one long word",
        "stopped in a loop",
        "a hasty word",
        "a loop",
        "a chant",
    ],
)
def test_speech_is_credible_and_noise_is_not(utterance: Utterance, found: Decoded, credible: bool) -> None:  # noqa: FBT001
    assert is_credible(utterance, found) is credible


@pytest.mark.parametrize(
    ("tokens", "loop"),
    [
        ([], False),
        ([1] * 8, False),
        ([1, 2, 3, 1, 2, 3], False),
        ([1, 2, 3] * 3, True),
        ([1, 2, 3, 2, 1, 3, 2, 1, 1, 3, 2], True),
        ([1, 2, 3, 4] * 2 + [5], False),
        ([*range(20), *[1, 2, 3] * 3], False),
        (list(range(50)), False),
    ],
)
def test_a_loop_is_the_same_few_tokens_again_and_again(tokens: list[int], loop: bool) -> None:  # noqa: FBT001
    assert is_loop(tokens) is loop


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("tickets to the top of the top of the", "tickets to the top of the"),
        ("and go to and go to and go to", "and go to"),
        ("no no no", "no no no"),
        ("one two three", "one two three"),
        ("it was the best of times it was the", "it was the best of times it was the"),
        ("", ""),
    ],
)
def test_a_repetition_at_the_end_is_cut_off(text: str, kept: str) -> None:
    words = written([Word(word, 1.0) for word in text.split()])
    assert " ".join(word.text for word in without_loop(words)) == kept
