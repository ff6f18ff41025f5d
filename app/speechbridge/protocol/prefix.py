"""Which words of a partial may be told for good, where a client's protocol can only append. Pure.

A partial may still change, also its first words. But what two partials or more, over a second of sound, have left as it
was seldom does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTIALS = 2  # in a row that agree about a word
SECONDS = 1.0  # of sound between the first and the last of them
HELD_BACK = 1  # words at the end: the last one is often half heard


@dataclass(slots=True)
class StablePrefix:
    """The words of one utterance, and since when each has been what it is."""

    told: int = 0  # words that were returned
    _words: list[tuple[str, float, int]] = field(default_factory=list)  # since which end_ts, and in how many

    def hear(self, words: Sequence[str], end_ts: float) -> Sequence[str]:
        """Take a partial's words and its `end_ts`; return those that can be told now, after those told before."""
        known, self._words = self._words, []
        agrees = True
        for nth, word in enumerate(words):
            agrees = agrees and nth < len(known) and known[nth][0] == word
            _, since, count = known[nth] if agrees else (word, end_ts, 0)
            self._words.append((word, since, count + 1))
        begin = stable = self.told
        for _, since, count in self._words[begin : max(len(words) - HELD_BACK, 0)]:
            if count < PARTIALS or end_ts - since < SECONDS:
                break
            stable += 1
        self.told = stable
        return words[begin:stable]
