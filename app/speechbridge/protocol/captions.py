"""A finished transcript as plain text, SubRip (SRT), WebVTT or Rev.ai's transcript JSON. Pure.

Subtitles are cut into cues by the rules of subtitlers: the numbers are those of Netflix' Timed Text Style Guide
(General Requirements; English). A final that does not fit into one cue is cut where a reader would pause: at a silence,
after a sentence, after a comma, and preferably near its middle. Two finals never share a cue.

Times come from the words. If a recognizer gives none, the words share the final's time in proportion to their length. A
time that runs backwards is moved to the end of the word before it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.abbreviations import is_abbreviation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from speechbridge.protocol.messages import Element, Final, Partial

LINE = 42  # columns in a line
LINES = 2  # lines in a cue
LONGEST = 7000  # ms that a cue is shown at most
SHORTEST = 833  # ms that a cue is shown at least: five sixths of a second
READING = 50  # ms for a character of a final without times: 20 characters a second
SILENCE = 1000  # ms without speech that end a cue. A guess: shorter pauses occur within a sentence
# The end of a sentence, perhaps followed by a quotation mark or bracket; the last three marks are East Asian.
SENTENCE = re.compile(r"[.?!\u3002\uff1f\uff01][\"\u201d\u2019')\]]*$")
PAUSE_COLUMN = 40  # ms of a reader's pause that outweigh one column of difference between two lines
OPENING = "\"\u201c\u2018'(["
CLAUSE = tuple(",;:\u3001\uff0c")
LATEST = 10**9  # seconds: a later time (30 years) is ignored as wrong

# Control characters, line and paragraph separators, surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Cue:
    """A caption: one or two lines of text, shown from `start` to `end` in ms."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word with its punctuation, which is never split."""

    text: str
    spaced: bool  # there is white space before it
    start: int  # ms
    end: int


def printable(text: str) -> str:
    """Replace characters that control a terminal, end a line, or cannot be encoded as UTF-8, by spaces."""
    return _UNPRINTABLE.sub(" ", text)


def line(result: Partial | Final) -> str:
    """Return the text of a result as one line, without control characters."""
    return " ".join(printable(result.text).split())


def to_text(finals: Iterable[Final]) -> str:
    """Write each final that has text on a line of its own."""
    return "".join(f"{text}\n" for final in finals if (text := line(final)))


def to_srt(finals: Iterable[Final]) -> str:
    """Write SubRip. The format has no escapes, so text is written as it is."""
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_joined(cue)}\n"
        for number, cue in enumerate(cues(finals), 1)
    )


def to_vtt(finals: Iterable[Final]) -> str:
    """Write WebVTT, with `&`, `<` and `>` escaped, so that the text cannot contain a tag or an arrow."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(_joined(cue))}\n" for cue in cues(finals)
    )
    return "\n".join(("WEBVTT\n", *blocks))


def to_json(finals: Iterable[Final]) -> str:
    """Write Rev.ai's transcript format on one line: a monologue for each final that has elements, times in seconds."""
    monologues = [
        {"speaker": 0, "elements": [_element(element) for element in final.elements]}
        for final in finals
        if final.elements
    ]
    return json.dumps({"monologues": monologues}, ensure_ascii=False, allow_nan=False) + "\n"


def cues(finals: Iterable[Final]) -> list[Cue]:
    """Cut finals into cues: in order, without overlap, each at least 1 ms long."""
    found: list[Cue] = []
    now = 0
    for final in finals:
        for run in _cut(_words(final, now)):
            start = max(now, run[0].start)
            now = max(start + 1, min(run[-1].end, start + LONGEST))
            found.append(Cue(start, now, _lines(run) or ()))
    next_starts = [cue.start for cue in found[1:]] + [now + SHORTEST]
    return [
        replace(cue, end=max(cue.end, min(cue.start + SHORTEST, next_start)))
        for cue, next_start in zip(found, next_starts, strict=False)
    ]


def _words(final: Final, now: int) -> list[_Word]:
    """Split a final where a line may end: at white space, and between elements of a script without spaces.

    Words begin at `now` or later, and none before the end of the previous one.
    """
    length = sum(len(element.value) for element in final.elements) or 1
    timed = all(_ms(word.ts) is not None and _ms(word.end_ts) is not None for word in final.words)
    begin = max(now, _ms(final.ts) or 0)
    duration = max(0, (_ms(final.end_ts) or 0) - begin) or READING * length
    words: list[_Word] = []
    passed = 0  # characters before the current element
    space = True
    for element in final.elements:
        start = end = now
        if not timed:
            start = begin + duration * passed // length
            end = begin + duration * (passed + len(element.value)) // length
        elif element.type == "text":
            start, end = _ms(element.ts) or 0, _ms(element.end_ts) or 0
        passed += len(element.value)
        value = printable(element.value)
        space = space or value[:1].isspace()
        texts = value.split()
        for nth, text in enumerate(texts):
            share = max(0, end - start) / len(texts)
            word_start = max(now, start + round(share * nth))
            now = max(word_start, start + round(share * (nth + 1)))
            apart = space or (element.type == "text" and _is_wide(words[-1].text[-1]) and _is_wide(text[0]))
            if apart:
                words.append(_Word(text, space, word_start, now))
            else:
                words[-1] = replace(words[-1], text=words[-1].text + text, end=now)
            space = nth < len(texts) - 1
        space = value[-1].isspace() if value else space
    return words


def _cut(words: list[_Word]) -> Iterator[list[_Word]]:
    """Yield runs of words that each fit into a cue, in order."""
    pending = [words] if words else []
    while pending:
        run = pending.pop()
        if len(run) == 1 or _fits(run):
            yield run
        else:
            at = max(range(1, len(run)), key=partial(_worth, run))
            pending += run[at:], run[:at]


def _fits(run: list[_Word]) -> bool:
    if len(run) > LINE * LINES:  # saves the search for line breaks
        return False
    unbroken = all(right.start - left.end < SILENCE for left, right in pairwise(run))
    return unbroken and run[-1].end - run[0].start <= LONGEST and _lines(run) is not None


def _worth(run: list[_Word], at: int) -> float:
    """Return how natural a cut before the word `at` is, in ms of silence."""
    before = run[at - 1]
    silence = run[at].start - before.end
    imbalance = abs(2 * at - len(run)) / len(run)  # 0 to 1
    return silence + _pause(before.text) - 1000 * imbalance


def _pause(word: str) -> int:
    """Return how long a reader pauses after a word, in ms."""
    if SENTENCE.search(word) and not is_abbreviation(word.lstrip(OPENING)):
        return 800
    return 400 if word.endswith(CLAUSE) else 0


def _lines(run: Sequence[_Word]) -> tuple[str, ...] | None:
    """Break a run into one line or two; None if two are not enough.

    Two lines have about the same length, or the first one ends where a reader pauses. A word that is longer than a line
    gets a line of its own, because cutting it would make two words of it.
    """
    whole = _line(run)
    if whole is not None:
        return (whole,)
    best: tuple[int, tuple[str, str]] | None = None
    for at in range(1, len(run)):
        top, bottom = _line(run[:at]), _line(run[at:])
        if top is None or bottom is None:
            continue
        unevenness = abs(_columns(top) - _columns(bottom)) - _pause(run[at - 1].text) // PAUSE_COLUMN
        if best is None or unevenness < best[0]:
            best = unevenness, (top, bottom)
    return best[1] if best else None


def _line(run: Sequence[_Word]) -> str | None:
    """Put words on one line; None if there are too many."""
    text = "".join(" " + word.text if word.spaced else word.text for word in run).lstrip()
    return text if len(run) == 1 or _columns(text) <= LINE else None


def _columns(text: str) -> int:
    return sum(1 + _is_wide(letter) for letter in text if not unicodedata.combining(letter))


def _is_wide(letter: str) -> bool:
    """Tell whether a letter fills two columns, like Chinese, Japanese and Korean ones."""
    return unicodedata.east_asian_width(letter) in ("W", "F")


def _ms(seconds: float | None) -> int | None:
    return round(seconds * 1000) if seconds is not None and 0 <= seconds < LATEST else None


def _clock(ms: int, mark: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{ms:03}"


def _joined(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _element(element: Element) -> dict[str, Any]:
    given = {"ts": element.ts, "end_ts": element.end_ts, "confidence": element.confidence}
    known = {name: value for name, value in given.items() if value is not None and math.isfinite(value)}
    return {"type": element.type, "value": printable(element.value), **known}
