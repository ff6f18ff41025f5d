"""Words whose full stop is their own and ends no sentence: "Mr.", "p.m.", "F." in "John F. Kennedy". Pure.

The page's captions.mjs has the same rule; a test compares what both make of it.
"""

from __future__ import annotations

import re

# None of these is a word of its own without the full stop: "no." and "co." may end a sentence, and are not here.
# fmt: off
ABBREVIATIONS = (
    "mr", "mrs", "ms", "dr", "st", "jr", "sr", "prof", "gen", "capt", "sgt", "lt", "vs", "etc", "inc", "ltd", "dept",
)
# fmt: on
_ABBREVIATION = re.compile(rf"(?:{'|'.join(ABBREVIATIONS)}|[a-hj-z]|[a-z](?:\.[a-z])+)\.", re.IGNORECASE)


def is_abbreviation(word: str) -> bool:
    """Tell whether a word with its full stop is one; a single letter is an initial, but for "I."."""
    return _ABBREVIATION.fullmatch(word) is not None
