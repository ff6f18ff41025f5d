"""Endpointing, frame by frame: where utterances begin and end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.recognizer.utterances import (
    AFTER,
    BEFORE,
    BEGIN_FRAMES,
    FEWEST,
    LONGEST,
    PAUSE,
    Segmenter,
    Utterance,
    frames,
)

YES, NO, PERHAPS = 0.9, 0.05, 0.3  # the last is speech only where there was speech before
LONG = frames(PAUSE[0])  # the pause that ends a short utterance


def ended(probabilities: list[float], longest: float = LONGEST) -> list[Utterance]:
    """Return the utterances in a stream, the one that its end cuts off included."""
    segmenter = Segmenter(longest)
    found = [utterance for probability in probabilities if (utterance := segmenter.add(probability))]
    return found + ([last] if (last := segmenter.finish()) else [])


def spans(probabilities: list[float], longest: float = LONGEST) -> list[tuple[int, int]]:
    return [(utterance.start, utterance.end) for utterance in ended(probabilities, longest)]


QUIET = [NO] * 50


@pytest.mark.parametrize(
    ("speech", "found"),
    [
        ([YES] * (BEGIN_FRAMES - 1), []),
        ([YES] * BEGIN_FRAMES, [(50 - frames(BEFORE), 50 + 3 + frames(AFTER))]),
        ([YES, NO, YES, NO, YES], [(50 - frames(BEFORE), 50 + 5 + frames(AFTER))]),
        ([YES, NO, NO, NO, NO, NO, YES, YES], []),
        ([PERHAPS] * 100, []),
        ([YES] * 3 + [PERHAPS] * 20, [(50 - frames(BEFORE), 50 + 23 + frames(AFTER))]),
        ([YES] * 20, [(50 - frames(BEFORE), 50 + 20 + frames(AFTER))]),
        ([YES] * 5 + [NO] * (LONG - 1) + [YES] * 5, [(50 - frames(BEFORE), 50 + 10 + LONG - 1 + frames(AFTER))]),
    ],
)
def test_an_utterance_has_speech_and_what_belongs_to_it(speech: list[float], found: list[tuple[int, int]]) -> None:
    assert spans(QUIET + speech + QUIET) == found


def test_a_long_pause_divides_two() -> None:
    first, second = spans(QUIET + [YES] * 10 + [NO] * LONG + [YES] * 10 + QUIET)
    assert first[1] <= second[0]
    assert second == (60 + LONG - frames(BEFORE), 60 + LONG + 10 + frames(AFTER))


def test_what_is_kept_before_speech_does_not_reach_into_the_utterance_before() -> None:
    (_, end), (start, _) = spans([YES] * 10 + [NO] * LONG + [YES] * 10)
    assert end == 10 + frames(AFTER)
    assert start == max(end, 10 + LONG - frames(BEFORE))


def test_it_ends_as_soon_as_the_pause_is_long_enough() -> None:
    segmenter = Segmenter()
    for probability in [YES] * 10 + [NO] * (LONG - 1):
        assert segmenter.add(probability) is None
    assert segmenter.add(NO) is not None
    assert segmenter.current is None


@pytest.mark.parametrize(("seconds", "pause"), [(1.0, 0.5), (4.0, 0.5), (10.0, 0.35), (14.0, 0.23)])
def test_the_longer_one_speaks_the_shorter_a_pause_ends_it(seconds: float, pause: float) -> None:
    speech = frames(seconds)
    segmenter = Segmenter()
    for _ in range(speech):
        assert segmenter.add(YES) is None
    silent = 1
    while segmenter.add(NO) is None:
        silent += 1
    assert silent == pytest.approx(frames(pause), abs=1)


def test_who_does_not_pause_is_cut_where_speech_is_least_probable() -> None:
    speech = [YES] * frames(40)
    for dip in (frames(12), frames(24)):
        speech[dip] = 0.5
    found = spans(speech)
    assert found[0] == (0, frames(12))
    assert found[1] == (frames(12), frames(24))
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert found[-1][1] == len(speech)
    assert all(end - start <= frames(LONGEST) for start, end in found)


def test_a_client_may_ask_for_shorter_ones_and_not_for_longer() -> None:
    speech = [YES] * frames(40)
    assert all(end - start <= frames(5) for start, end in spans(speech, longest=5.0))
    assert spans(speech, longest=30.0) == spans(speech)


def test_the_end_of_the_input_ends_it_in_the_middle_of_a_word() -> None:
    assert spans(QUIET + [YES] * 10) == [(50 - frames(BEFORE), 60)]
    assert spans(QUIET + [YES] * 10 + [NO] * 3) == [(50 - frames(BEFORE), 63)]


def test_too_little_speech_is_known_as_such() -> None:
    few, enough = ended(QUIET + [YES] * (FEWEST - 1) + QUIET + [YES] * FEWEST + QUIET)
    assert (few.is_long_enough, enough.is_long_enough) == (False, True)


def test_its_voice_is_that_of_its_speech_alone() -> None:
    (utterance,) = ended(QUIET + [0.8] * 10 + QUIET)
    assert utterance.voice == pytest.approx(0.8)
    assert utterance.speech_frames == 10
    assert Utterance(0).voice == 0.0


def test_a_copy_does_not_grow() -> None:
    utterance = Utterance(3)
    utterance.add(YES, is_speech=True)
    copy = utterance.copy()
    utterance.add(YES, is_speech=True)
    assert (copy.end, utterance.end) == (4, 5)


@given(st.lists(st.sampled_from([YES, NO, PERHAPS, 0.4, 0.2]), max_size=1500), st.floats(5, 30))
def test_whatever_comes_utterances_are_in_order_and_no_longer_than_they_may(
    probabilities: list[float], longest: float
) -> None:
    segmenter, found = Segmenter(longest), []
    for number, probability in enumerate(probabilities, 1):
        assert 0 <= segmenter.oldest <= number
        before = segmenter.oldest
        if (utterance := segmenter.add(probability)) is not None:
            assert before <= utterance.start  # its samples are still there
            found.append(utterance)
    found += [last] if (last := segmenter.finish()) else []
    assert all(utterance.start < utterance.end <= len(probabilities) for utterance in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert all(utterance.end - utterance.start <= frames(LONGEST) for utterance in found)
