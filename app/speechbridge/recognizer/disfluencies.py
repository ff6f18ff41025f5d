"""Removes disfluencies, if a client asks for that. English. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from speechbridge.recognizer.written import SENTENCE_ENDS, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    Timed = tuple[Written, tuple[float, float]]

DISFLUENCY = re.compile(r"u+[hm]+", re.IGNORECASE)  # um, uh, uhm, umm: Rev.ai removes "ums" and "uhs"


def without_disfluencies(words: Sequence[Timed]) -> list[Timed]:
    """Leave out um and uh. Their capital letter moves to the next word, a full stop after them to the previous one."""
    kept: list[Timed] = []
    is_capital = False
    for word, times in words:
        if DISFLUENCY.fullmatch(word.text):
            is_capital = is_capital or word.text[0].isupper()
            if kept and word.after.startswith(SENTENCE_ENDS):
                kept[-1] = replace(kept[-1][0], after=word.after), kept[-1][1]
        else:
            text = word.text[:1].upper() + word.text[1:] if is_capital else word.text
            kept.append((replace(word, text=text), times))
            is_capital = False
    return kept
