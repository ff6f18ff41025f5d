"""Turns a final into the tokens of other protocols: words with the space before and the punctuation after. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechbridge.protocol.messages import Final

LEAST = 1e-6  # a confidence of 0 has no logarithm


@dataclass(frozen=True, slots=True)
class Token:
    """A word with the space before it and the punctuation after it."""

    text: str
    confidence: float | None


def tokens_of(final: Final, *, after_others: bool = False) -> list[Token]:
    """Return the words of a final as tokens, whose joined texts are its text; `after_others` adds a space before it."""
    texts: list[str] = []
    space = " " if after_others else ""
    for element in final.elements:
        if element.type == "text":
            texts.append(space + element.value)
            space = ""
            continue
        mark = element.value.rstrip()
        if texts:
            texts[-1] += space + mark
            space = element.value[len(mark) :]
        else:
            space += element.value
    return [Token(text, word.confidence) for text, word in zip(texts, final.words, strict=True)]


def logprob(token: Token) -> dict[str, Any]:
    """Return a token in the format of OpenAI's `logprobs`."""
    value = math.log(min(max(token.confidence or 0.0, LEAST), 1.0))
    return {"token": token.text, "logprob": round(value, 6), "bytes": list(token.text.encode("utf-8", "replace"))}
