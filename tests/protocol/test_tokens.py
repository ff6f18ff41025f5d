"""The words of finals with their punctuation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.messages import Element, Final
from speechbridge.protocol.tokens import Token, logprob, tokens_of


def test_punctuation_belongs_to_the_word_before_it_and_a_space_to_the_one_after() -> None:
    elements = (Element("Well"), Element(", ", "punct"), Element("then", confidence=0.5), Element(".", "punct"))
    said = Final(0.0, 1.0, elements)
    assert tokens_of(said) == [Token("Well,", None), Token(" then.", 0.5)]
    assert tokens_of(said, after_others=True)[0] == Token(" Well,", None)


def test_a_confidence_of_0_has_a_logprob() -> None:
    assert logprob(Token("a", 0.0))["logprob"] < -10
    assert logprob(Token("a", 1.0)) == {"token": "a", "logprob": 0.0, "bytes": [97]}


@given(st.lists(st.tuples(st.sampled_from(["text", "punct"]), st.text(max_size=3))))
def test_tokens_are_the_text_of_a_final(elements: list[tuple[str, str]]) -> None:
    said = Final(0.0, 1.0, tuple(Element(value, kind) for kind, value in elements))
    tokens = tokens_of(said)
    assert len(tokens) == len(said.words)
    text = "".join(token.text for token in tokens)
    assert not said.words or said.text.startswith(text)
    assert not said.words or said.text[len(text) :].strip() == ""
