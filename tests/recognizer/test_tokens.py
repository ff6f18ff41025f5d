"""Tokens to text and words, whatever bytes a token is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.recognizer.tokens import SPACE, Tokenizer, Word

SPECIAL = [b"<unk>", b"<s>", b"</s>"]


def file(*pieces: bytes) -> bytes:
    """Write a tokenizer.bin."""
    written = b""
    for piece in [*SPECIAL, *pieces]:
        length = len(piece)
        written += bytes([length]) if length < 128 else bytes([length % 128 + 128, length // 128])
        written += piece
    return written


def words(*pieces: bytes, probabilities: list[float] | None = None) -> list[Word]:
    """Return the words that some tokens write, one after the other."""
    tokenizer = Tokenizer(file(*pieces))
    tokens = range(len(SPECIAL), len(SPECIAL) + len(pieces))
    return tokenizer.words(list(tokens), probabilities or [1.0] * len(pieces))


def test_a_token_may_be_longer_than_a_byte_can_say() -> None:
    assert len(Tokenizer(file(b"x" * 127, b"x" * 128, b"x" * 1000))) == 6
    assert words(b"x" * 1000) == [Word("x" * 1000, 1.0)]


@pytest.mark.parametrize("content", [file(b"abc")[:-1], file(b"x" * 200)[:-1], file() + b"\xc8", b"", b"\x01a"])
def test_what_is_cut_short_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|no tokens"):
        Tokenizer(content)


def test_words_are_cut_at_spaces_and_keep_their_punctuation() -> None:
    found = words(SPACE + b"And", SPACE + b"Mr", b".", SPACE, b"Dash", b"wood,")
    assert [word.text for word in found] == ["And", "Mr.", "Dashwood,"]
    assert all(word.spaced for word in found)


def test_a_word_is_as_sure_as_its_least_sure_token() -> None:
    found = words(SPACE + b"Dash", b"wood", SPACE + b"had", probabilities=[0.9, 0.4, 0.7])
    assert [word.confidence for word in found] == [0.4, 0.7]


def test_a_token_of_two_words_counts_for_both() -> None:
    found = words(SPACE + b"a" + SPACE + b"b", b"c", probabilities=[0.5, 0.9])
    assert [(word.text, word.confidence) for word in found] == [("a", 0.5), ("bc", 0.5)]


def test_a_character_may_span_tokens() -> None:
    letter = "é".encode()
    assert words(SPACE + b"caf" + letter[:1], letter[1:])[0].text == "café"
    assert words(letter[:1])[0].text == "\ufffd"


def test_ideographs_are_words_without_spaces() -> None:
    found = words(SPACE + "今日は".encode(), b"good")
    assert [(word.text, word.spaced) for word in found] == [("今", True), ("日", False), ("は", False), ("good", False)]


@given(st.lists(st.tuples(st.binary(max_size=5), st.floats(0, 1)), max_size=20))
def test_no_letter_is_lost(tokens: list[tuple[bytes, float]]) -> None:
    pieces = [piece for piece, _ in tokens]
    found = words(*pieces, probabilities=[probability for _, probability in tokens])
    spaced = b"".join(pieces).replace(SPACE, b" ").split()
    assert "".join(word.text for word in found) == "".join(part.decode(errors="replace") for part in spaced)
    assert all(word.confidence in [p for _, p in tokens] for word in found)
