"""Turns a model's tokens into words. Pure.

The text of a token is some bytes. A character may span several tokens, and a token may have parts of two words. So the
bytes of all tokens are joined, and then split into words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BEGIN, END = 1, 2
SPACE = "\u2581".encode()  # a space, in SentencePiece's tokenizers
WORD = re.compile(rb"\S+")
# Chinese characters and Japanese kana: they are written without spaces, so each counts as a word.
IDEOGRAPH = re.compile("([\u2e80-\u2fff\u3040-\u30ff\u31f0-\u9fff\uf900-\ufaff\U00020000-\U0003fffd])")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as the model writes it, with adjacent punctuation."""

    text: str
    confidence: float  # 0 to 1: the smallest probability among its tokens
    spaced: bool = True  # there is white space before it


class Tokenizer:
    """The text of each token, from the content of a `tokenizer.bin`.

    For each token, the file has a length and so many bytes. A length below 128 is one byte; a larger one is two bytes:
    its low 7 bits plus 128, and its high bits.
    """

    def __init__(self, content: bytes) -> None:
        """Read the tokens. Raises ValueError if this is not such a file."""
        self._pieces = list(_pieces(content))
        if len(self._pieces) <= END:
            raise ValueError("it has no tokens")

    def __len__(self) -> int:
        return len(self._pieces)

    def words(self, tokens: Sequence[int], probabilities: Sequence[float]) -> list[Word]:
        """Return the words of these tokens. `probabilities` has one for each token, 0 to 1."""
        pieces = [self._pieces[token] for token in tokens]
        owners = [nth for nth, piece in enumerate(pieces) for _ in piece]  # for each byte, the index of its token
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
