"""A finished transcript as plain text, SubRip (SRT), WebVTT or Rev.ai's transcript JSON. Pure.

Subtitles are cut into cues as subtitlers do it: the numbers are those of Netflix' Timed Text Style Guide (General
Requirements; English). A final that does not fit a cue is cut where a reader would pause: at a silence, after a
sentence, after a comma, and rather in the middle than at an edge. Two finals never share a cue.

Times come from the words. Where a recognizer gives none, the words share the final's time by their length. Times
that run backwards are moved up to the end of what was said before.
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

LINE = 42  # columns of a line
LINES = 2  # of a cue
LONGEST = 7000  # ms a cue is shown
SHORTEST = 833  # ms: five sixths of a second
READING = 50  # ms a character, where nothing is known of the time: 20 characters a second
SILENCE = 1000  # ms within which nobody speaks end a cue. A guess: shorter ones come within a sentence
# Ends a sentence, with a quotation mark or bracket after it perhaps; the last three are East Asian.
SENTENCE = re.compile(r"[.?!\u3002\uff1f\uff01][\"\u201d\u2019')\]]*$")
PAUSE_COLUMN = 40  # ms of a pause that are worth a column of unevenness
OPENING = "\"\u201c\u2018'(["
CLAUSE = tuple(",;:\u3001\uff0c")
LATEST = 10**9  # seconds: a time beyond 30 years is none

# Controls, separators, halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Cue:
    """A caption: one or two lines of text, shown from `start` to `end` in ms."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """What is never torn apart: letters, and the punctuation at them."""

    text: str
    spaced: bool  # white space comes before it
    start: int  # ms
    end: int


def printable(text: str) -> str:
    """Put spaces where a terminal would be steered, a line would end, or UTF-8 would fail."""
    return _UNPRINTABLE.sub(" ", text)


def line(heard: Partial | Final) -> str:
    """Return what was heard as one line, without control characters."""
    return " ".join(printable(heard.text).split())


def to_text(finals: Iterable[Final]) -> str:
    """Write each final that has text on a line of its own."""
    return "".join(f"{text}\n" for final in finals if (text := line(final)))


def to_srt(finals: Iterable[Final]) -> str:
    """Write SubRip. It knows no escapes: text stands as it is."""
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_joined(cue)}\n"
        for number, cue in enumerate(cues(finals), 1)
    )


def to_vtt(finals: Iterable[Final]) -> str:
    """Write WebVTT, with `&`, `<` and `>` escaped: no tag and no arrow can come about in the text."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(_joined(cue))}\n" for cue in cues(finals)
    )
    return "\n".join(("WEBVTT\n", *blocks))


def to_json(finals: Iterable[Final]) -> str:
    """Write Rev.ai's transcript form on one line: a monologue for each final that has elements, times in seconds."""
    monologues = [
        {"speaker": 0, "elements": [_element(element) for element in final.elements]}
        for final in finals
        if final.elements
    ]
    return json.dumps({"monologues": monologues}, ensure_ascii=False, allow_nan=False) + "\n"


def cues(finals: Iterable[Final]) -> list[Cue]:
    """Cut finals into cues: in order, never overlapping, each at least 1 ms long."""
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
    """Take a final apart where a line may end: at white space, and between elements of a script that has none.

    Words begin at `now` or later, and none before the end of the one before it.
    """
    length = sum(len(element.value) for element in final.elements) or 1
    timed = all(_ms(word.ts) is not None and _ms(word.end_ts) is not None for word in final.words)
    begin = max(now, _ms(final.ts) or 0)
    duration = max(0, (_ms(final.end_ts) or 0) - begin) or READING * length
    words: list[_Word] = []
    passed = 0  # of the length
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
    """Yield runs of words that fit a cue each, in order."""
    pending = [words] if words else []
    while pending:
        run = pending.pop()
        if len(run) == 1 or _fits(run):
            yield run
        else:
            at = max(range(1, len(run)), key=partial(_worth, run))
            pending += run[at:], run[:at]


def _fits(run: list[_Word]) -> bool:
    if len(run) > LINE * LINES:  # spares the search for lines
        return False
    unbroken = all(right.start - left.end < SILENCE for left, right in pairwise(run))
    return unbroken and run[-1].end - run[0].start <= LONGEST and _lines(run) is not None


def _worth(run: list[_Word], at: int) -> float:
    """Say how natural it is to cut before the word `at`, in ms of silence."""
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
    """Break a run into as few lines as it takes; None where two are not enough.

    The two are about as long as each other, or the first one ends where a reader pauses. A word longer than a line has
    one to itself: cut, it would become two words.
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
    """Put words on one line; None where they are too many."""
    text = "".join(" " + word.text if word.spaced else word.text for word in run).lstrip()
    return text if len(run) == 1 or _columns(text) <= LINE else None


def _columns(text: str) -> int:
    return sum(1 + _is_wide(letter) for letter in text if not unicodedata.combining(letter))


def _is_wide(letter: str) -> bool:
    """Whether a letter fills two columns: Chinese, Japanese and Korean ones."""
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
