"""Which words are shown, and with which times: with a model that says what it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from speechbridge.recognizer.hypotheses import CERTAIN, Hypotheses, shared_out
from speechbridge.recognizer.moonshine import Decoded, Moonshine
from speechbridge.recognizer.options import StreamOptions
from speechbridge.recognizer.tokens import Word
from speechbridge.recognizer.utterances import FEWEST, Utterance
from speechbridge.recognizer.voice import FRAME, FRAME_SECONDS
from speechbridge.recognizer.written import written

if TYPE_CHECKING:
    from speechbridge.protocol.messages import Final, Partial
    from speechbridge.recognizer.align import Aligner, Times
    from speechbridge.recognizer.moonshine import Samples


@dataclass
class Told:
    """A model whose tokens are the words of a text, one each."""

    text: str

    def words(self, decoded: Decoded) -> list[Word]:
        return [Word(self.text.split()[token], decoded.probabilities[token]) for token in decoded.tokens]


@dataclass
class Clock:
    """An aligner that finds a word every half a second."""

    knows: bool = True
    late: float = 0.0

    def align(self, _samples: Samples, words: list[str]) -> list[Times] | None:
        return [(self.late + nth / 2, self.late + nth / 2 + 0.4) for nth in range(len(words))] if self.knows else None


def utterance(seconds: float = 1.8, start: int = 100, voice: float = 0.9) -> Utterance:
    """Return one that is speech from its first frame to its last."""
    made = Utterance(start)
    for _ in range(round(seconds / FRAME_SECONDS)):
        made.add(voice, is_speech=True)
    return made


START = 100 * FRAME_SECONDS


def heard(text: str, confidence: float = 0.9) -> Decoded:
    count = len(text.split())
    return Decoded(tuple(range(count)), (confidence,) * count)


def made(text: str, options: StreamOptions | None = None, aligner: Clock | None = None) -> Hypotheses:
    return Hypotheses(cast("Moonshine", Told(text)), cast("Aligner | None", aligner), options or StreamOptions())


def final(
    text: str, options: StreamOptions | None = None, aligner: Clock | None = None, speech: Utterance | None = None
) -> Final:
    speech = speech or utterance()
    samples = np.zeros(len(speech.probabilities) * FRAME, np.int16)
    return made(text, options, aligner or Clock()).final(speech, heard(text), samples)


def partial(text: str, options: StreamOptions | None = None) -> Partial:
    found = made(text, options).partial(utterance(), heard(text))
    assert found
    return found


def test_a_final_has_capitals_punctuation_and_the_aligners_times() -> None:
    said = final("And Mr. X, said.")
    assert said.text == "And Mr. X, said."
    assert [word.value for word in said.words] == ["And", "Mr.", "X", "said"]
    assert [word.ts for word in said.words] == pytest.approx([START, START + 0.5, START + 1.0, START + 1.5], abs=0.006)
    assert (said.ts, said.end_ts) == (said.words[0].ts, said.words[-1].end_ts)
    assert {word.confidence for word in said.words} == {0.9}


def test_times_begin_at_start_ts() -> None:
    plain, moved = final("one two"), final("one two", StreamOptions(start_ts=100.0))
    assert [word.ts for word in moved.words] == pytest.approx([(word.ts or 0) + 100 for word in plain.words])
    assert moved.end_ts == pytest.approx(plain.end_ts + 100)


def test_without_an_alignment_words_share_the_speech_by_their_letters() -> None:
    said = final("a internationally", aligner=Clock(knows=False))
    first, second = said.words
    assert first.ts == pytest.approx(START, abs=0.01)
    assert second.end_ts == pytest.approx(START + 1.8, abs=0.05)
    assert (second.end_ts or 0) - (second.ts or 0) > 2 * ((first.end_ts or 0) - (first.ts or 0))


def test_shared_times_grow_and_stay_within_the_speech() -> None:
    words = written([Word(text, 1.0) for text in ("so", "\u2014", *["word"] * 300)])
    times = shared_out(utterance(1.0), words)
    assert all(START <= ts <= end_ts <= START + 1.0 + FRAME_SECONDS for ts, end_ts in times)
    assert [ts for ts, _ in times] == sorted(ts for ts, _ in times)


def test_times_do_not_reach_beyond_the_speech_nor_the_sound() -> None:
    """The aligner gives the last word the silence after it; and a stream's last frame is longer than its sound."""
    late = Clock(late=1.7)
    speech = utterance()
    for _ in range(10):
        speech.add(0.01, is_speech=False)
    assert final("one two", aligner=late, speech=speech).end_ts == pytest.approx(START + 1.8, abs=FRAME_SECONDS)
    cut = made("one", aligner=Clock()).final(utterance(), heard("one"), np.zeros(3200, np.int16))
    assert cut.end_ts == pytest.approx(START + 0.2, abs=0.01)


def test_a_partial_has_words_alone() -> None:
    shown = partial("And Mr. X, said.")
    assert [element.value for element in shown.elements] == ["And", "Mr.", "X", "said"]
    assert all(element.type == "text" and element.ts is None for element in shown.elements)
    assert shown.ts == pytest.approx(START, abs=0.01)
    assert shown.end_ts == pytest.approx(START + 1.8, abs=0.05)


def test_detailed_partials_have_times_and_confidences() -> None:
    shown = partial("one two three", StreamOptions(detailed_partials=True, start_ts=100.0))
    times = [time for element in shown.elements for time in (element.ts or 0, element.end_ts or 0)]
    assert times == sorted(times)
    assert 100 + START - 0.01 <= times[0] < times[-1] <= 100 + START + 1.9
    assert {element.confidence for element in shown.elements} == {0.9}


def test_last_words_that_are_not_certain_are_held_back() -> None:
    model = made("one two three four")
    decoded = Decoded((0, 1, 2, 3), (0.3, 0.9, 0.3, 0.39))
    shown = model.partial(utterance(), decoded)
    assert shown
    assert shown.text == "one two", "an uncertain word among certain ones stays"
    assert model.partial(utterance(), replace(decoded, probabilities=(0.39,) * 4)) is None


def test_a_word_that_is_shown_is_not_taken_back_for_being_uncertain() -> None:
    model = made("one two three four")
    first = model.partial(utterance(), Decoded((0, 1, 2), (0.9, 0.9, CERTAIN)))
    assert first
    again = model.partial(utterance(), Decoded((0, 1, 2, 3), (0.9, 0.9, 0.3, 0.3)), first.elements)
    assert again
    assert again.elements == first.elements


def test_what_is_not_credible_says_nothing() -> None:
    """A click, however sure the model is of a word in it."""
    click, samples = utterance((FEWEST - 1) * FRAME_SECONDS), np.zeros(16000, np.int16)
    model = made("Yes.", aligner=Clock())
    assert model.partial(click, heard("Yes.")) is None
    assert model.final(click, heard("Yes."), samples).elements == ()


def test_a_partial_has_no_loop_at_its_end() -> None:
    assert partial("tickets to the top of the top of the").text == "tickets to the top of the"


@pytest.mark.parametrize(
    ("options", "text", "said"),
    [
        (StreamOptions(), "Um, this is bullshit, Mr. X.", "Um, this is bullshit, Mr. X."),
        (StreamOptions(remove_disfluencies=True), "Um, this is, uh, bullshit.", "This is, bullshit."),
        (StreamOptions(filter_profanity=True), "This is bullshit, Mr. X.", "This is b******t, Mr. X."),
        (StreamOptions(skip_postprocessing=True), "Um, is this \u2014 $5, Mr. X?", "um is this $5 mr x"),
        (
            StreamOptions(filter_profanity=True, remove_disfluencies=True, skip_postprocessing=True),
            "Um, bullshit.",
            "b******t",
        ),
    ],
)
def test_options_change_the_words_of_finals_and_partials(options: StreamOptions, text: str, said: str) -> None:
    assert final(text, options).text == said
    words = [element.value for element in partial(text, options).elements]
    assert words == [word.value for word in final(text, options).words]


def test_an_utterance_of_disfluencies_alone_says_nothing() -> None:
    options = StreamOptions(remove_disfluencies=True)
    assert final("Um.", options).elements == ()
    assert made("Um.", options).partial(utterance(), heard("Um.")) is None
