"""Separates written words from their punctuation, and turns both into a message's elements. Pure.

"Mr. Dashwood, he said." has four words. The comma and the last full stop are punctuation; the first full stop belongs
to its word, as do "$", "%", the dots of "3.5" and "a.m.", and the apostrophe and the hyphen within a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.protocol.abbreviations import is_abbreviation
from speechbridge.protocol.messages import Element

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from speechbridge.recognizer.tokens import Word

SPACE = Element(" ", "punct")
BEFORE, AFTER = (
    '"\u201c\u201d([{\u00bf\u00a1\u2014\u2013-',
    '.,?!;:\u2026"\u201c\u201d)]}\u2014\u2013-\u3002\uff0c\uff1f\uff01\u3001',
)
SENTENCE_ENDS = tuple(".?!\u3002\uff1f\uff01")
REPEATED = re.compile(r"([,;:?!])\1+")  # the model sometimes writes a comma twice


@dataclass(frozen=True, slots=True)
class Written:
    """A word, the punctuation before and after it, and its confidence. `text` is empty for punctuation alone."""

    before: str
    text: str
    after: str
    confidence: float
    spaced: bool = True  # there is white space before it


def written(words: Sequence[Word]) -> list[Written]:
    """Separate words from their punctuation."""
    found = []
    for nth, word in enumerate(words):
        rest = word.text.lstrip(BEFORE)
        text = rest.rstrip(AFTER)
        before, after = word.text[: len(word.text) - len(rest)], rest[len(text) :]
        if _is_number(word.text, before, text):
            before, text = before[:-1], f"-{text}"
        after = REPEATED.sub(r"\1", after)
        if (
            after.startswith(".")
            and not after.startswith("..")
            and _is_abbreviated(text, is_last=nth == len(words) - 1)
        ):
            text, after = f"{text}.", after[1:]
        found.append(Written(before, text, after, word.confidence, word.spaced))
    return found


def plain(words: Iterable[Written]) -> list[Written]:
    """Remove capitals and punctuation."""
    bare = (replace(word, before="", text=_undotted(word.text.lower()), after="") for word in words)
    return [word for word in bare if word.text]


def _undotted(text: str) -> str:
    """Remove the dots from "mr." and "p.m.", but not from "3.5"."""
    return text if any(letter.isdigit() for letter in text) else text.replace(".", "")


def final_elements(words: Sequence[Written], times: Sequence[tuple[float, float]]) -> tuple[Element, ...]:
    """Return a final's elements: each word with its time in seconds, and the punctuation and spaces between them."""
    return tuple(_final_elements(words, times))


def _final_elements(words: Sequence[Written], times: Sequence[tuple[float, float]]) -> Iterator[Element]:
    for nth, (word, (ts, end_ts)) in enumerate(zip(words, times, strict=True)):
        if nth and word.spaced:
            yield SPACE
        if word.before:
            yield Element(word.before, "punct")
        if word.text:
            yield Element(word.text, "text", ts, end_ts, round(word.confidence, 2))
        if word.after:
            yield Element(word.after, "punct")


def partial_elements(words: Sequence[Written], times: Sequence[tuple[float, float]] | None) -> tuple[Element, ...]:
    """Return a partial's elements: only words; with their times and confidences, if times are given."""
    if times is None:
        return tuple(Element(word.text) for word in words if word.text)
    return tuple(
        Element(word.text, "text", ts, end_ts, round(word.confidence, 2))
        for word, (ts, end_ts) in zip(words, times, strict=True)
        if word.text
    )


def _is_number(whole: str, before: str, text: str) -> bool:
    """Tell whether the hyphen before a word is a minus sign: -5."""
    return before.endswith("-") and text[:1].isdigit() and bool(whole)


def _is_abbreviated(text: str, *, is_last: bool) -> bool:
    """Tell whether the full stop after a word belongs to it. A letter at the very end is not an initial: "plan B."."""
    if len(text) == 1 and (is_last or not text.isupper()):
        return False
    return is_abbreviation(f"{text}.")
