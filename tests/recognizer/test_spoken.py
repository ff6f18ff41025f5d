"""How written words are spoken, for the aligner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.recognizer.spoken import spoken


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello", "hello"),
        ("Mr.", "mister"),
        ("don't", "don't"),
        ("it\u2019s", "it's"),
        ("cold-hearted", "cold hearted"),
        ("a.m.", "a m"),
        ("AT&T", "at and t"),
        ("7", "seven"),
        ("12", "twelve"),
        ("40", "forty"),
        ("21", "twenty one"),
        ("340", "three hundred forty"),
        ("1,250", "one thousand two hundred fifty"),
        ("1984", "nineteen eighty four"),
        ("1906", "nineteen oh six"),
        ("1900", "nineteen hundred"),
        ("2000", "two thousand"),
        ("2026", "twenty twenty six"),
        ("2,026", "two thousand twenty six"),
        ("3.5", "three point five"),
        ("007", "zero zero seven"),
        ("1000000", "one million"),
        ("12345678901", "one two three four five six seven eight nine zero one"),
        ("50%", "fifty percent"),
        ("$5", "five dollars"),
        ("$2.50", "two point five zero dollars"),
        ("\u00a3100", "one hundred pounds"),
        ("1st", "first"),
        ("20th", "twentieth"),
        ("21st", "twenty first"),
        ("48th", "forty eighth"),
        ("100th", "one hundredth"),
        ("6th", "sixth"),
        ("10:30", "ten thirty"),
        ("B2B", "b two b"),
        ("\u2014", ""),
        ("'", ""),
    ],
)
def test_what_is_written_so_is_said_so(written: str, said: str) -> None:
    assert " ".join(spoken(written)) == said


@given(st.text(max_size=30))
def test_whatever_is_written_is_words_for_a_dictionary(written: str) -> None:
    for word in spoken(written):
        assert word == word.lower()
        assert set(word) <= set("abcdefghijklmnopqrstuvwxyz'")
