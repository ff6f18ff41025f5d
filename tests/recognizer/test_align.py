"""When words were said: within 0.1 s of the truth where the truth is known."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from speechbridge.recognizer import align
from speechbridge.recognizer.align import Aligner, pronunciation
from tests.helpers.clip import FIRST_SENTENCE, RATE, READ, SPOKEN, TWO_VOICES, noise, pcm, silence

if TYPE_CHECKING:
    from speechbridge.recognizer.moonshine import Samples

pytestmark = pytest.mark.slow

# Seconds at which the first word begins and each word ends: from the synthesizer that said them (flite -psdur). Between
# "today" and "and" it pauses from 2.222 to 2.451.
# fmt: off
SAID = (
    [
        0.584, 0.687, 1.042, 1.158, 1.466, 1.807, 2.222, 2.609, 2.760, 2.941, 3.290, 3.369, 3.463, 3.866, 3.955, 4.014,
        4.491,
    ],
    [5.636, 6.004, 6.347, 6.435, 6.829, 7.117, 7.529, 7.616, 7.862, 8.447, 8.801],
)
# fmt: on
CLEARLY_SAID = 0.1  # seconds
SOME_SILENCE = 0.1  # seconds that the last word may take of the silence after it; the voice detector knows better


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner()


def samples(audio: bytes) -> Samples:
    return np.frombuffer(audio, "<i2")


def errors(aligner: Aligner, number: int) -> list[float]:
    start, end = (0, 5 * RATE) if number == 0 else (5 * RATE, 10 * RATE)
    times = aligner.align(samples(pcm(TWO_VOICES))[start:end], SPOKEN[number].split())
    assert times
    assert all(before[1] <= after[0] for before, after in pairwise(times))
    ends = [times[0][0], *(end for _, end in times)]
    return [abs(found + start / RATE - said) for found, said in zip(ends, SAID[number], strict=True)]


@pytest.mark.parametrize("number", [0, 1])
def test_words_are_found_within_a_tenth_of_a_second(aligner: Aligner, number: int) -> None:
    *found, last = errors(aligner, number)
    assert max(found) < CLEARLY_SAID
    assert last < CLEARLY_SAID + SOME_SILENCE
    assert mean(found) < 0.04


def test_real_speech_is_aligned_from_its_first_word_to_its_last(aligner: Aligner) -> None:
    times = aligner.align(samples(pcm(seconds=FIRST_SENTENCE)), READ[0].split())
    assert times
    assert 0.1 < times[0][0] < 0.4
    assert 6.6 < times[-1][1] < FIRST_SENTENCE
    assert all(ts < end_ts for ts, end_ts in times)


def test_a_word_that_no_dictionary_has_is_aligned_by_its_letters(aligner: Aligner) -> None:
    words = SPOKEN[1].replace("window", "winndoe").split()
    times = aligner.align(samples(pcm(TWO_VOICES))[5 * RATE :], words)
    assert times
    assert times[3][0] + 5 == pytest.approx(6.435, abs=CLEARLY_SAID)
    assert times[3][1] + 5 == pytest.approx(6.829, abs=CLEARLY_SAID)


def test_one_written_word_may_be_several_spoken_ones(aligner: Aligner) -> None:
    words = ["The", "weather", "is", "very-nice", "today,"]
    times = aligner.align(samples(pcm(TWO_VOICES))[: int(2.4 * RATE)], words)
    assert times
    assert times[3] == pytest.approx((1.158, 1.807), abs=CLEARLY_SAID)


@pytest.mark.parametrize("words", [["\u2014"], ["the", "?!", "window"]])
def test_what_is_not_spoken_cannot_be_aligned(aligner: Aligner, words: list[str]) -> None:
    assert aligner.align(samples(pcm(TWO_VOICES)), words) is None


@pytest.mark.parametrize("sound", [b"", bytes(100), silence(0.1), noise(0.2)])
def test_words_that_do_not_fit_the_sound_have_no_times_and_do_no_harm(aligner: Aligner, sound: bytes) -> None:
    aligner.align(samples(sound), READ[0].split())
    assert max(errors(aligner, 0)) < CLEARLY_SAID + SOME_SILENCE, "the next one is aligned as ever"


def test_the_dictionary_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(align, "MOST_ADDED", 10)
    aligner, loaded = Aligner(), list[Any]()
    for number in range(30):
        word = "".join("qxzvjkwpfg"[int(digit)] for digit in f"{number:02}") + "q"
        aligner.align(samples(pcm(TWO_VOICES))[:RATE], [word])
        if aligner._decoder not in loaded:
            loaded.append(aligner._decoder)
        assert aligner._added <= 10
    assert len(loaded) == 3


@pytest.mark.parametrize(
    ("word", "sounds"),
    [("chip", "CH IH P"), ("phone", "F AA N EH"), ("queen", "K W IY N"), ("xyz", "K S Y Z"), ("", "AH"), ("'", "AH")],
)
def test_a_pronunciation_is_guessed_from_letters(word: str, sounds: str) -> None:
    assert pronunciation(word) == sounds


def test_a_word_without_end_has_a_pronunciation_with_one() -> None:
    assert len(pronunciation("a" * 10_000).split()) == align.LONGEST_WORD
