"""Words whose full stop ends no sentence."""

from __future__ import annotations

import pytest

from speechbridge.protocol.abbreviations import is_abbreviation


@pytest.mark.parametrize("word", ["Mr.", "mrs.", "Dr.", "St.", "etc.", "p.m.", "U.S.", "e.g.", "F.", "b."])
def test_a_full_stop_of_its_own(word: str) -> None:
    assert is_abbreviation(word)


@pytest.mark.parametrize("word", ["no.", "co.", "I.", "Mr", "morning.", "3.5.", "12.", "...", ".", "", "Mr..", "p.m"])
def test_a_full_stop_that_ends_a_sentence_or_none(word: str) -> None:
    assert not is_abbreviation(word)
