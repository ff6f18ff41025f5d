"""Abbreviations, whose full stop does not end a sentence: "Mr.", "p.m.", "F." in "John F. Kennedy". Pure.

The page's captions.mjs has the same rule; a test compares the results of both.
"""

from __future__ import annotations

import re

# None of these is a word without its full stop. "no." and "co." are not in the list, because they may end a sentence.
# fmt: off
ABBREVIATIONS = (
    "mr", "mrs", "ms", "dr", "st", "jr", "sr", "prof", "gen", "capt", "sgt", "lt", "vs", "etc", "inc", "ltd", "dept",
)
# fmt: on
_ABBREVIATION = re.compile(rf"(?:{'|'.join(ABBREVIATIONS)}|[a-hj-z]|[a-z](?:\.[a-z])+)\.", re.IGNORECASE)


def is_abbreviation(word: str) -> bool:
    """Tell whether a word with its full stop is an abbreviation. Single letters are initials, except "I."."""
    return _ABBREVIATION.fullmatch(word) is not None
