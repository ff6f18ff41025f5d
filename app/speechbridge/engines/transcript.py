"""Turns a recognizer's results into our messages: words and punctuation, with the stream's times. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PUNCTUATED = re.compile(r"([^.,!?;:]+)([.,!?;:]+)")  # "Hello," but neither "3.5" nor "U.S."


@dataclass(frozen=True, slots=True)
class Word:
    """A recognizer's word, with the punctuation that follows it. Times count from the beginning of its connection."""

    value: str
    start: float
    end: float
    confidence: float | None = None
    speaker: str | None = None


class Transcript:
    """The results of one connection. `start_ts` is when the connection began, in seconds of the stream."""

    def __init__(self, start_ts: float) -> None:
        self._start_ts = start_ts
        self._settled = 0.0  # seconds of the connection

    def partial(self, text: str, end: float = 0.0) -> str:
        """Return the message for an interim result that goes up to `end`."""
        elements = tuple(Element(word) for word in text.split())
        return Partial(self._stream(self._settled), self._stream(max(end, self._settled)), elements).encode()

    def final(self, text: str, words: Iterable[Word], end: float = 0.0) -> str | None:
        """Return the message for a final result. It settles the audio up to `end`, or to the end of its last word.

        None if it has no text and settles nothing. Words that an earlier final had are left out: with diarization, a
        service may repeat all of them.
        """
        new = [word for word in words if (word.start + word.end) / 2 >= self._settled]
        begin, end = new[0].start if new else self._settled, max([end, *(word.end for word in new)])
        if end <= self._settled and not new and not text.strip():
            return None
        listed = new or [Word(value, 0.0, 0.0) for value in text.split()]
        elements = tuple(self._elements(listed, has_times=bool(new)))
        self._settled = end = max(end, self._settled)
        return Final(self._stream(begin), self._stream(end), elements).encode()

    def _elements(self, words: Iterable[Word], *, has_times: bool) -> Iterator[Element]:
        is_first = True
        for word in words:
            if not is_first:
                yield Element(" ", "punct")
            is_first = False
            parts = _PUNCTUATED.fullmatch(word.value)
            value, mark = (parts[1], parts[2]) if parts else (word.value, "")
            start, end = (self._stream(word.start), self._stream(word.end)) if has_times else (None, None)
            yield Element(value, "text", start, end, word.confidence, word.speaker)
            if mark:
                yield Element(mark, "punct")

    def _stream(self, seconds: float) -> float:
        return round(self._start_ts + seconds, 3)
