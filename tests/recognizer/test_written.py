"""Words taken apart from their punctuation, and put into elements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.messages import Element, Final
from speechbridge.recognizer.tokens import Word
from speechbridge.recognizer.written import Written, final_elements, partial_elements, plain, written


def words(text: str) -> list[Word]:
    return [Word(part, 0.9) for part in text.split()]


def times(count: int) -> list[tuple[float, float]]:
    return [(float(nth), nth + 0.5) for nth in range(count)]


def parts(text: str) -> list[tuple[str, str, str]]:
    return [(word.before, word.text, word.after) for word in written(words(text))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello,", [("", "Hello", ",")]),
        ("Mr. Dashwood.", [("", "Mr.", ""), ("", "Dashwood", ".")]),
        ("Oh no.", [("", "Oh", ""), ("", "no", ".")]),
        ("at 5 p.m.", [("", "at", ""), ("", "5", ""), ("", "p.m.", "")]),
        ("John F. Kennedy", [("", "John", ""), ("", "F.", ""), ("", "Kennedy", "")]),
        ("Plan B.", [("", "Plan", ""), ("", "B", ".")]),
        ("So am I.", [("", "So", ""), ("", "am", ""), ("", "I", ".")]),
        ("$3.50, 12%!", [("", "$3.50", ","), ("", "12%", "!")]),
        ('"Yes," (he) said...', [('"', "Yes", ',"'), ("(", "he", ")"), ("", "said", "...")]),
        ("don't cold-hearted dogs'", [("", "don't", ""), ("", "cold-hearted", ""), ("", "dogs'", "")]),
        ("ill-", [("", "ill", "-")]),
        ("-5 degrees", [("", "-5", ""), ("", "degrees", "")]),
        ("well \u2014 yes", [("", "well", ""), ("\u2014", "", ""), ("", "yes", "")]),
        ("short,, really??", [("", "short", ","), ("", "really", "?")]),
        ("10:30 1,250", [("", "10:30", ""), ("", "1,250", "")]),
    ],
)
def test_punctuation_is_apart_from_words_and_what_belongs_to_a_word_is_not(
    text: str, found: list[tuple[str, str, str]]
) -> None:
    assert parts(text) == found


@given(st.text(max_size=40))
def test_no_character_is_lost_but_repeated_punctuation(text: str) -> None:
    for word in text.split():
        (found,) = written([Word(word, 1.0)])
        together = found.before + found.text + found.after
        assert together == word or len(together) < len(word)
        assert together[:1] == word[:1]


def test_a_final_has_spaces_and_punctuation_between_its_words_as_rev_ai_has() -> None:
    apart = written(words('He said, "Yes."'))
    elements = final_elements(apart, times(3))
    assert elements == (
        Element("He", "text", 0.0, 0.5, 0.9),
        Element(" ", "punct"),
        Element("said", "text", 1.0, 1.5, 0.9),
        Element(",", "punct"),
        Element(" ", "punct"),
        Element('"', "punct"),
        Element("Yes", "text", 2.0, 2.5, 0.9),
        Element('."', "punct"),
    )
    assert Final(0, 1, elements).text == 'He said, "Yes."'


def test_ideographs_have_no_spaces_between_them() -> None:
    apart = [Written("", text, "", 1.0, spaced=nth == 0) for nth, text in enumerate("今日")]
    assert Final(0, 1, final_elements(apart, times(2))).text == "今日"


def test_a_partial_has_words_alone_and_times_if_they_are_given() -> None:
    apart = written(words("Well, \u2014 Mr. X"))
    assert [element.value for element in partial_elements(apart, None)] == ["Well", "Mr.", "X"]
    assert {(e.ts, e.end_ts, e.confidence) for e in partial_elements(apart, None)} == {(None, None, None)}
    assert [(e.value, e.ts) for e in partial_elements(apart, times(4))] == [("Well", 0.0), ("Mr.", 2.0), ("X", 3.0)]


def test_plain_words_have_neither_capitals_nor_punctuation() -> None:
    bare = plain(written(words("Well, Mr. X \u2014 at 5 p.m. OK?")))
    assert [word.text for word in bare] == ["well", "mr", "x", "at", "5", "pm", "ok"]
    assert all(word.before == word.after == "" for word in bare)
