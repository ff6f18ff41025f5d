"""The speech model: samples to tokens, with a guess and without."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from speechbridge.recognizer.models import load_model
from speechbridge.recognizer.moonshine import TOKENS_PER_SECOND, Decoded, Moonshine
from tests.helpers.clip import FIRST_SENTENCE, RATE, READ, noise, pcm

if TYPE_CHECKING:
    from speechbridge.recognizer.moonshine import Samples

pytestmark = pytest.mark.slow


def samples(audio: bytes) -> Samples:
    return np.frombuffer(audio, "<i2")


ROUNDING = 0.05  # the model is quantised, and several tokens at once are scaled otherwise than one
SENTENCE = samples(pcm(seconds=FIRST_SENTENCE))


@pytest.fixture(scope="module")
def model() -> Moonshine:
    return Moonshine(load_model())


@pytest.fixture(scope="module")
def sentence(model: Moonshine) -> Decoded:
    return model.decode(SENTENCE)


def text(model: Moonshine, decoded: Decoded) -> str:
    return " ".join(word.text for word in model.words(decoded))


def test_it_writes_what_is_said(model: Moonshine, sentence: Decoded) -> None:
    assert text(model, sentence) == READ[0]
    assert len(sentence.tokens) == len(sentence.probabilities)
    assert all(0 < probability <= 1 for probability in sentence.probabilities)
    assert min(sentence.probabilities) < 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_right_guess_changes_nothing(model: Moonshine, sentence: Decoded, share: float) -> None:
    guess = sentence.tokens[: int(share * len(sentence.tokens))]
    again = model.decode(SENTENCE, guess)
    assert again.tokens == sentence.tokens
    assert again.probabilities == pytest.approx(sentence.probabilities, abs=ROUNDING)


@pytest.mark.parametrize("at", [0, 5, -1])
def test_a_wrong_guess_is_kept_up_to_where_it_is_wrong(model: Moonshine, sentence: Decoded, at: int) -> None:
    guess = list(sentence.tokens)
    guess[at] += 1
    assert model.decode(SENTENCE, guess).tokens == sentence.tokens


def test_what_was_heard_of_a_part_is_a_guess_for_the_whole(model: Moonshine, sentence: Decoded) -> None:
    part = model.decode(SENTENCE[: 3 * RATE])
    assert model.decode(SENTENCE, part.tokens).tokens == sentence.tokens


def test_a_guess_that_is_too_long_for_the_sound_is_cut(model: Moonshine, sentence: Decoded) -> None:
    decoded = model.decode(SENTENCE[:RATE], sentence.tokens * 3)
    assert len(decoded.tokens) <= TOKENS_PER_SECOND + 1


@pytest.mark.parametrize("length", [0, 1, 500, 4000])
def test_any_length_will_do(model: Moonshine, length: int) -> None:
    assert len(model.decode(SENTENCE[:length]).tokens) <= 2


def test_a_noise_cannot_make_it_write_for_ever(model: Moonshine) -> None:
    assert len(model.decode(samples(noise(3.0, 20000))).tokens) <= 3 * TOKENS_PER_SECOND + 1


def test_threads_may_share_it(model: Moonshine, sentence: Decoded) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert {decoded.tokens for decoded in pool.map(model.decode, [SENTENCE] * 8)} == {sentence.tokens}
