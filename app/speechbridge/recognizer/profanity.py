"""Masks profanity as Rev.ai does: all letters but the first and the last. The only import of profanex.

Its list has English words and phrases. It is cautious: words that also have a decent meaning ("cockpit", "Dick") are
not on it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from profanex import Filter

if TYPE_CHECKING:
    from collections.abc import Sequence


def masked(words: Sequence[str]) -> list[str]:
    """Return the words, with asterisks for the inner letters of profane words and phrases."""
    text = " ".join(words)
    letters = list(text)
    for match in _filter().find(text.replace("'", " ")):
        inner = range(match.start + 1, match.end - 1)
        letters[inner.start : inner.stop] = [" " if text[at] == " " else "*" for at in inner]
    return "".join(letters).split(" ")


@cache
def _filter() -> Filter:
    return Filter.from_defaults()  # takes 20 ms, so it is loaded only when a stream asks for it
