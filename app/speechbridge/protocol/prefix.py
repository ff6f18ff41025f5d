"""Decides which words of a partial are stable enough for a protocol that can only append text. Pure.

A partial may still change, even its first words. But a word that has been the same in two partials or more, over a
second of audio, seldom changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTIALS = 2  # partials in a row that agree on a word
SECONDS = 1.0  # of audio between the first and the last of them
HELD_BACK = 1  # words at the end, because the last word is often incomplete


@dataclass(slots=True)
class StablePrefix:
    """The words of one utterance, and how long each has not changed."""

    emitted: int = 0  # the number of words returned so far
    _words: list[tuple[str, float, int]] = field(default_factory=list)  # word, end_ts of its first partial, partials

    def update(self, words: Sequence[str], end_ts: float) -> Sequence[str]:
        """Take a partial's words and its `end_ts`; return the words that have become stable."""
        known, self._words = self._words, []
        agrees = True
        for nth, word in enumerate(words):
            agrees = agrees and nth < len(known) and known[nth][0] == word
            _, since, count = known[nth] if agrees else (word, end_ts, 0)
            self._words.append((word, since, count + 1))
        begin = stable = self.emitted
        for _, since, count in self._words[begin : max(len(words) - HELD_BACK, 0)]:
            if count < PARTIALS or end_ts - since < SECONDS:
                break
            stable += 1
        self.emitted = stable
        return words[begin:stable]
