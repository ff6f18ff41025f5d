"""Profanity, masked as Rev.ai does it."""

from __future__ import annotations

import pytest

from speechbridge.recognizer.profanity import masked


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("What the fuck", "What the f**k"),
        ("Bullshit you bastard", "B******t you b*****d"),
        ("Dick assessed the cockpit in Scunthorpe", "Dick assessed the cockpit in Scunthorpe"),
        ("motherfucker's", "m**********r's"),
        ("a good day", "a good day"),
        ("", ""),
    ],
)
def test_the_inner_letters_of_a_profane_word_are_asterisks(said: str, shown: str) -> None:
    assert masked(said.split(" ")) == shown.split(" ")


def test_each_word_stays_at_its_place() -> None:
    words = ["the", "", "shit", "$5", "today"]
    assert masked(words) == ["the", "", "s**t", "$5", "today"]


def test_letters_whose_lower_case_is_longer_move_nothing() -> None:
    assert masked(["\u0130\u0130\u0130", "shit"]) == ["\u0130\u0130\u0130", "s**t"]
