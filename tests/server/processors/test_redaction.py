"""No card number survives, however it is said, and nothing else is touched."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.messages import Element, Final, Partial, parse_message
from speechbridge.recognizer.tokens import Word
from speechbridge.recognizer.written import final_elements, written
from speechbridge.server.processors.redaction import CARD, ONES, TEENS, TENS, Redaction, luhn
from speechbridge.testing.script import partial

if TYPE_CHECKING:
    from collections.abc import Callable

redact = Redaction()

VISA = "4111111111111111"


def with_check_digit(digits: str) -> str:
    return next(digits + check for check in "0123456789" if luhn(digits + check))


cards = st.text("0123456789", min_size=CARD.start - 1, max_size=CARD.stop - 2).map(with_check_digit)
words = st.sampled_from(["the", "weather", "is", "nice", "and", "3", "dogs", "met", "12", "cats", "in", "2026"])
sentences = st.lists(words).map(
    lambda said: [word for before, word in pairwise(["", *said]) if not (before.isdigit() and word.isdigit())]
)
digit_words = {digit: word for word, digit in reversed(list(ONES.items())[:10])}


@st.composite
def spoken(draw: st.DrawFn, digits: str) -> list[str]:
    """Say digits as people do: one by one, in pairs, doubled, in figures."""
    said: list[str] = []
    place = 0
    while place < len(digits):
        rest = digits[place:]
        ways: list[tuple[int, str]] = [(1, digit_words[rest[0]]), (1, rest[0])]
        if len(rest) > 1 and rest[0] == "1":
            ways.append((2, TEENS[int(rest[1])]))
        if len(rest) > 1 and rest[0] > "1":
            tens = next(word for word, digit in TENS.items() if digit == rest[0])
            ways.append((2, tens if rest[1] == "0" else f"{tens} {digit_words[rest[1]]}"))
        ways += [
            (n, f"{word} {digit_words[rest[0]]}")
            for n, word in ((2, "double"), (3, "triple"))
            if len(set(rest[:n])) == 1 and len(rest) >= n
        ]
        ways += [(n, rest[:n]) for n in (4, 16) if len(rest) >= n]
        taken, words_ = draw(st.sampled_from(ways))
        # "forty" and then "one" would be forty-one: who says so means 4 1
        if said and said[-1] in TENS and words_.split()[0] in list(ONES)[1:10]:
            taken, words_ = 1, rest[0]
        said.append(words_)
        place += taken
    return said


def element(value: str, number: int) -> Element:
    return Element(value, "text", number / 10, (number + 1) / 10, 0.9)


def as_final(values: list[str]) -> Final:
    elements = [e for n, value in enumerate(values) for e in (element(value, n), Element(" ", "punct"))]
    return Final(0.0, len(values) / 10, tuple(elements[:-1]))


def digits_left(text: str) -> str:
    return re.sub(r"\D", "", text)


@given(cards.flatmap(lambda card: st.tuples(st.just(card), spoken(card))), sentences, sentences)
def test_no_card_survives_in_a_final_however_it_is_said(
    said: tuple[str, list[str]], before: list[str], after: list[str]
) -> None:
    _, values = said
    before, after = [*before, "card"], ["thanks", *after]  # a number right before it would be a part of its row
    message = as_final([*before, *(word for value in values for word in value.split()), *after])
    answer = parse_message(redact(message.encode()))
    assert isinstance(answer, Final)
    assert answer.text == " ".join([*before, "[card]", *after])
    assert (answer.ts, answer.end_ts) == (message.ts, message.end_ts)
    found = answer.words[len(before)]
    spoken_words = message.words[len(before) : len(message.words) - len(after)]
    assert (found.ts, found.end_ts) == (spoken_words[0].ts, spoken_words[-1].end_ts)
    rest = answer.words[: len(before)] + answer.words[len(before) + 1 :]
    assert rest == message.words[: len(before)] + message.words[len(message.words) - len(after) :]


@given(cards, st.sampled_from([" ", "-", ".", ", "]), st.integers(1, 6), st.text("abc ,."), st.text("abc ,."))
def test_no_card_survives_in_a_text_however_it_is_written(
    card: str, gap: str, size: int, before: str, after: str
) -> None:
    groups = gap.join(card[n : n + size] for n in range(0, len(card), size))
    assert redact(f"{before} x {groups} x {after}") == f"{before} x [card] x {after}"


@given(cards.flatmap(lambda card: st.tuples(st.just(card), spoken(card))))
def test_no_partial_tells_more_of_a_card_than_six_digits(said: tuple[str, list[str]]) -> None:
    """A card is said piece by piece, and partials come meanwhile."""
    words_ = [word for value in said[1] for word in value.split()]
    for length in range(len(words_)):
        answer = parse_message(redact(partial("card", *words_[: length + 1]).text))
        assert isinstance(answer, Partial)
        left = [word for word in answer.text.split() if word.isdigit() or word in {*ONES, *TENS, *TEENS}]
        assert sum(len(word) if word.isdigit() else 1 for word in left) <= 6


@given(sentences, st.sampled_from(["final", "partial"]))
def test_what_holds_nothing_passes_byte_for_byte(values: list[str], kind: str) -> None:
    message = as_final(values).encode() if kind == "final" else partial(*values).text
    for text in (message, message.replace(" ", "  "), " ".join(values)):
        assert redact(text) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab c."),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["type", "elements", "x"]), inner)
            | st.fixed_dictionaries({"value": st.text("ab c.")})  # a number there is read as text
        ),
    )
)
def test_any_json_without_numbers_in_its_texts_passes_byte_for_byte(value: Any) -> None:
    text = json.dumps(value)
    if isinstance(value, dict | list):
        assert redact(text) == text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"{VISA}", "[card]"),  # alone it is JSON, too
        (f"the number: {VISA}.", "the number: [card]."),
        ("four triple one double one double one double one double one double one double one", "[card]"),
        ("call 555-1234 now", "call [phone] now"),
        ("call (555) 123-4567 now", "call ([phone] now"),
        ("call +49 171 234567 now", "call [phone] now"),
        ("call plus four nine one seven one two three four five six seven", "call [phone]"),
        ("call five five five dash one two three dash four five six seven", "call [phone]"),
        ("four triple one, um, quadruple one uh quadruple one quadruple one", "[card]"),
        ("4111\u20131111\u20131111 \u2013 1111", "[card]"),
        ("we have one dash of salt and, um, two eggs", "we have one dash of salt and, um, two eggs"),
        ("call oh one seven one double two three four five six", "call [phone]"),
        ("in 2026 there were 365 days, 52 weeks", "in 2026 there were 365 days, 52 weeks"),
        ("tom@example.com", "[email]"),
        ("mail tom.smith+x@mail.example.co.uk. Thanks", "mail [email]. Thanks"),
        ("mail tom dot smith at example dot com", "mail [email]"),
        ("we met at noon", "we met at noon"),
        (f"{VISA[:12]} {VISA[12:]}@example.com", "[card]"),
        ('{"said": {"deep": ["tom@example.com"]}, "n": 1}', '{"said": {"deep": ["[email]"]}, "n": 1}'),
        ("\u0664\u0661\u0661\u0661 1111 1111 1111", "[card]"),  # Arabic digits
    ],
)
def test_what_is_found_and_what_is_not(said: str, told: str) -> None:
    assert redact(said) == told


def test_what_begins_or_ends_within_an_element_leaves_the_rest_of_it() -> None:
    message = Final(0, 3, (Element("a:4111", "text", 0, 1), Element("+", "punct"), Element("x", "text", 2, 3)))
    values = [Element(f"no.{VISA[:8]}", "text", 0.0, 1.0), Element(f"{VISA[8:]}!", "text", 1.0, 2.0)]
    answer = parse_message(redact(Final(0, 2, tuple(values)).encode()))
    assert answer == Final(0, 2, (Element("no.[card]", "text", 0.0, 2.0), Element("!", "text", 1.0, 2.0)))
    assert redact(message.encode()) == message.encode()


def test_a_plus_of_its_own_becomes_a_word_with_times() -> None:
    values = (Element("+", "punct"), Element("49 171 234567", "text", 1.0, 2.0, 0.9))
    answer = parse_message(redact(Final(0, 2, values).encode()))
    assert answer == Final(0, 2, (Element("[phone]", "text", 1.0, 2.0),))


def test_fields_that_the_protocol_does_not_know_stay() -> None:
    message = {"type": "final", "speaker_id": 1000, "elements": [{"type": "unknown", "value": VISA, "x": [1]}]}
    assert json.loads(redact(json.dumps(message))) == message | {
        "elements": [{"type": "text", "value": "[card]", "x": [1]}]
    }


def test_a_final_of_words_only_is_read_with_spaces() -> None:
    """Rev.ai's have punctuation between; another SDK's may not."""
    words_ = [{"type": "text", "value": word} for word in ("mail", "bob@example.com", "or", "call", "555-1234")]
    redacted = json.loads(redact(json.dumps({"type": "final", "elements": words_})))
    assert [element["value"] for element in redacted["elements"]] == ["mail", "[email]", "or", "call", "[phone]"]


@pytest.mark.parametrize("odd", [{"type": "unknown"}, {"value": None}, {"value": 1111}, {"value": [VISA]}])
def test_an_odd_element_keeps_nothing_else_from_being_found(odd: dict[str, Any]) -> None:
    elements = [odd, {"value": "-4111 "}, {"value": "1111"}, {"value": " 1111 1111"}]
    assert "4111" not in redact(json.dumps({"type": "final", "elements": elements}))


@pytest.mark.parametrize("make", [lambda n: "a" * n, lambda n: "a." * n, lambda n: "1 a " * n, lambda n: "a at " * n])
def test_no_text_takes_long(make: Callable[[int], str]) -> None:
    """A search that tries every division of such a text would not come back in this life."""
    assert redact(make(5000)) == make(5000)


def test_what_cannot_be_read_is_not_sent() -> None:
    """Too deep for the parser: it raises, and as it is required the response is dropped."""
    with pytest.raises(RecursionError):
        redact("[" * 100_000)
    assert redact.required


def embedded(text: str) -> Final:
    """Write a text as the embedded recognizer does, with punctuation apart."""
    apart = written([Word(word, 0.9) for word in text.split()])
    return Final(0.0, 9.0, final_elements(apart, [(float(n), n + 0.5) for n in range(len(apart))]))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("My card is 4111 1111 1111 1111.", "My card is [card]."),
        ("It is 4111-1111-1111-1111, Mr. X.", "It is [card], Mr. X."),
        ("Call (415) 555-0132 at 5 p.m.", "Call ([phone] at 5 p.m."),
        ("Call me: +1 415-555-0132!", "Call me: [phone]!"),
        ("I am tom.smith@example.com, Dr. Who.", "I am [email], Dr. Who."),
        ("Tom at example.com.", "[email]."),
    ],
)
def test_what_the_embedded_recognizer_writes_in_figures_is_found(said: str, shown: str) -> None:
    found = parse_message(redact(embedded(said).encode()))
    assert isinstance(found, Final)
    assert found.text == shown


@pytest.mark.parametrize(
    "said", ["Mr. X paid $3.50, or 12% more, on June 20, 2026.", "At 10:30 a.m. Mr. F. Y had $1,234.56 left."]
)
def test_money_dates_and_abbreviations_stay(said: str) -> None:
    text = embedded(said).encode()
    assert redact(text) == text
