"""Um and uh, left out without a trace."""

from __future__ import annotations

import pytest

from speechbridge.protocol.messages import Final
from speechbridge.recognizer.disfluencies import without_disfluencies
from speechbridge.recognizer.tokens import Word
from speechbridge.recognizer.written import final_elements, written


def cleaned(text: str) -> str:
    words = written([Word(part, 1.0) for part in text.split()])
    kept = without_disfluencies([(word, (float(nth), nth + 1.0)) for nth, word in enumerate(words)])
    return Final(0, 1, final_elements([word for word, _ in kept], [times for _, times in kept])).text


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("I um think so.", "I think so."),
        ("Um, I think so.", "I think so."),
        ("Uh, um, what is it?", "What is it?"),
        ("I think so, uh.", "I think so."),
        ("I, uhm, think. Umm. So be it.", "I, think. So be it."),
        ("Uh.", ""),
        ("Umbrella, hum, a drum.", "Umbrella, hum, a drum."),
        ("Er is a name, a mm is a length.", "Er is a name, a mm is a length."),
    ],
)
def test_they_are_left_out_and_nothing_else(said: str, shown: str) -> None:
    assert cleaned(said) == shown


def test_the_other_words_keep_their_times() -> None:
    words = written([Word(part, 1.0) for part in ("um", "so")])
    kept = without_disfluencies([(words[0], (0.0, 1.0)), (words[1], (1.0, 2.0))])
    assert [times for _, times in kept] == [(1.0, 2.0)]
