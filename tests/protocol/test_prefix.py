"""Which words of partials are told for good."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.prefix import StablePrefix


def test_a_word_is_told_once_two_partials_over_a_second_agree_and_another_follows() -> None:
    prefix = StablePrefix()
    assert prefix.update(["and"], 0.5) == []
    assert prefix.update(["and", "mister"], 1.0) == []
    assert prefix.update(["and", "mister", "john"], 1.5) == ["and"]
    assert prefix.update(["and", "mister", "john"], 2.0) == ["mister"]
    assert prefix.update(["and", "mister", "john"], 9.0) == []  # the last one is held back


def test_many_partials_within_a_second_tell_nothing() -> None:
    prefix = StablePrefix()
    assert [prefix.update(["a", "b"], 0.1 * nth) for nth in range(10)] == [[]] * 10


def test_a_word_that_changes_and_all_behind_it_begin_anew() -> None:
    prefix = StablePrefix()
    for end in (8.3, 9.2):
        assert prefix.update(["I'd", "less", "to"], end) == []
    assert prefix.update(["unless", "less", "to"], 10.0) == []
    assert prefix.update(["unless", "less", "to"], 11.0) == ["unless", "less"]


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=6), max_size=30))
def test_what_is_told_never_shrinks_and_has_stood_in_two_partials(partials: list[list[str]]) -> None:
    prefix, told = StablePrefix(), 0
    for nth, words in enumerate(partials):
        new = prefix.update(words, float(nth))
        assert prefix.emitted == told + len(new)
        assert all(earlier[told : told + len(new)] == new for earlier in partials[max(nth - 1, 0) : nth + 1])
        told = prefix.emitted
