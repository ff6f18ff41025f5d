"""From a recognizer's results to our messages: words and punctuation, with the stream's times. Pure."""

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
    """A word as recognizers give it, with the punctuation that follows. Times count from where its connection began."""

    value: str
    start: float
    end: float
    confidence: float | None = None
    speaker: str | None = None


class Transcript:
    """What one connection has said. `start_ts` is where it began, in seconds of the stream."""

    def __init__(self, start_ts: float) -> None:
        self._start_ts = start_ts
        self._settled = 0.0  # seconds of the connection

    def partial(self, text: str, end: float = 0.0) -> str:
        """Return the message for an interim result that goes up to `end`."""
        elements = tuple(Element(word) for word in text.split())
        return Partial(self._stream(self._settled), self._stream(max(end, self._settled)), elements).encode()

    def final(self, text: str, words: Iterable[Word], end: float = 0.0) -> str | None:
        """Return the message for a final result, which settles all up to `end`, or to the end of its last word.

        None if it says and settles nothing. Words that an earlier final had are left out: with diarization, a service
        may say all of them again.
        """
        news = [word for word in words if (word.start + word.end) / 2 >= self._settled]
        begin, end = news[0].start if news else self._settled, max([end, *(word.end for word in news)])
        if end <= self._settled and not news and not text.strip():
            return None
        timed = news or [Word(value, 0.0, 0.0) for value in text.split()]
        elements = tuple(self._elements(timed, has_times=bool(news)))
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
