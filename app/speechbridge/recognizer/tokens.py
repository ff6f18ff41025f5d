"""A model's tokens: numbers to text, and text to words. Pure.

A token is some bytes. A character may span tokens, and a token may hold parts of two words, so words are cut from the
bytes of all tokens together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BEGIN, END = 1, 2
SPACE = "\u2581".encode()  # how a tokenizer of SentencePiece writes a space
WORD = re.compile(rb"\S+")
# Chinese, Japanese, and Korean's Chinese characters: they are written without spaces, so each counts as a word.
IDEOGRAPH = re.compile("([\u2e80-\u2fff\u3040-\u30ff\u31f0-\u9fff\uf900-\ufaff\U00020000-\U0003fffd])")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as the model writes it, with the punctuation at it."""

    text: str
    confidence: float  # 0 to 1: the smallest probability among its tokens
    spaced: bool = True  # white space comes before it


class Tokenizer:
    """The text of each token, from the content of a `tokenizer.bin`.

    For each token that file has a length and so many bytes. The length is one byte, or two where the first is 128 or
    more: the first less 128, and 128 times the second.
    """

    def __init__(self, content: bytes) -> None:
        """Read the tokens. Raises ValueError for what is no such file."""
        self._pieces = list(_pieces(content))
        if len(self._pieces) <= END:
            raise ValueError("it has no tokens")

    def __len__(self) -> int:
        return len(self._pieces)

    def words(self, tokens: Sequence[int], probabilities: Sequence[float]) -> list[Word]:
        """Return the words that tokens write. Each token has its probability, 0 to 1."""
        pieces = [self._pieces[token] for token in tokens]
        owners = [nth for nth, piece in enumerate(pieces) for _ in piece]  # for each byte: the token that it is of
        found = []
        for match in WORD.finditer(b"".join(pieces).replace(SPACE, b" " * len(SPACE))):
            confidence = min(probabilities[nth] for nth in owners[match.start() : match.end()])
            texts = [text for text in IDEOGRAPH.split(match.group().decode(errors="replace")) if text]
            found += [Word(text, confidence, spaced=nth == 0) for nth, text in enumerate(texts)]
        return found


def _pieces(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        head = content[at : at + 1 + (content[at] >= 128)]
        length = head[0] if head[0] < 128 else head[0] - 128 + 128 * head[-1]
        at += len(head)
        piece = content[at : at + length]
        if len(piece) < length or (head[0] >= 128 and len(head) == 1):
            raise ValueError("it is cut short")
        yield piece
        at += length
