"""Redaction: removes card numbers, e-mail addresses and phone numbers from transcripts, written or spelled out.

    SPEECHBRIDGE_PROCESSORS=speechbridge.server.processors.redaction:Redaction

In Rev.ai's messages it searches the elements, joined into one text, because a card number may be one element, or
sixteen. Each match becomes one element, `[card]`, `[email]` or `[phone]`, which covers the times of all elements that
it replaces. The message's own `ts` and `end_ts` and all other elements stay. Other JSON is searched string by string,
other text as a whole. A message without a match is passed on byte for byte.

    card     13 to 19 digits that pass Luhn's check, anywhere in a run of digits; in long runs some always do
    phone    a run of 10 to 15 digits, of 7 to 15 after a plus, or 555-1234
    run      digits and spelled digits ("four one double two", "forty one eleven"), grouped in any way
    e-mail   tom@example.com, and "tom dot smith at example dot com"

In doubt it removes too much. In a partial it also replaces seven or more digits at the end by `[digits]`, because they
may be the beginning of a card number. It cannot find a number that a pause has split between two finals.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD = range(13, 20)  # digits: ISO/IEC 7812
PHONE = range(10, 16)  # E.164 has 15 at most
PHONE_AFTER_PLUS = range(7, 16)
UNFINISHED = 7  # digits at the end of a partial that may become a card number

ONES = dict(
    zip(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], "0123456789", strict=True)
)
ONES |= {"oh": "0", "o": "0", "nought": "0"}
TEENS = [
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
WORDS = ONES | {word: str(number) for number, word in enumerate(TEENS, 10)}
WORDS |= {"hundred": "00", "thousand": "000"}
TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], "23456789", strict=True)
)
TIMES = {"double": 2, "triple": 3, "treble": 3, "quadruple": 4}

# What may come between the digits of one run, including dashes of any length.
GAP = r"(?:[\s\-\u2010-\u2015.,()/]|\b(?:dash|hyphen|uh|um)\b){0,5}"


def _any(words: dict[str, Any]) -> str:
    return "|".join(words)


# The next piece of a run: a digit, or a spelled number. Groups: digit, tens (and ones after it), times and ones, word.
PIECE = re.compile(
    rf"(?P<digit>\d)"
    rf"|\b(?P<tens>{_any(TENS)})(?:[\s-]+(?P<tens_ones>{_any(dict(list(ONES.items())[1:10]))}))?\b"
    rf"|\b(?P<times>{_any(TIMES)})\s+(?:(?P<times_ones>{_any(ONES)})\b|(?P<times_digit>\d))"
    rf"|\b(?P<word>{_any(WORDS)})\b",
    re.IGNORECASE,
)
JOINED = re.compile(GAP)
HANGING = re.compile(rf"{GAP}(?:{_any(TIMES)})?\s*", re.IGNORECASE)  # "four double", with more to come
PLUS = re.compile(r"(?:\+|\bplus)[\s(]{0,2}$", re.IGNORECASE)
LOCAL = re.compile(r"\d{3}-\d{4}")

# Each part is bounded, by what RFC 5321 allows, so that no text takes long to search.
_DOT = r"(?:\.|\s\.\s|\sdot\s)"
EMAIL = re.compile(
    rf"(?:[\w+%-]{{1,64}}(?:{_DOT}|\s(?:underscore|dash|hyphen|plus)\s)){{0,8}}[\w+%-]{{1,64}}"
    rf"(?:@|\s@\s|\sat\s)"
    rf"[\w-]{{1,63}}(?:{_DOT}[\w-]{{1,63}}){{0,8}}{_DOT}[^\W\d_]{{2,63}}\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Span:
    """A match in a text, and the name that replaces it."""

    start: int
    end: int
    name: str


class Redaction:
    """The processor. It is required: a response on which it fails is not sent."""

    required = True

    def __call__(self, message: str) -> str:
        try:
            parsed = json.loads(message)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict | list):  # plain text; a text of digits only is valid JSON, too
            return _redacted(message)
        redacted = _walk(parsed)
        return message if redacted is parsed else json.dumps(redacted)


def find(text: str, *, may_go_on: bool = False) -> list[Span]:
    """Find the matches in a text, in order and without overlaps. `may_go_on`: more text may follow, as in a partial."""
    found = [Span(email.start(), email.end(), "[email]") for email in EMAIL.finditer(text)]
    for row in _rows(text):
        found += _numbers(text, row, may_go_on=may_go_on)
    spans: list[Span] = []
    for span in sorted(found, key=lambda span: span.start):
        if spans and span.start < spans[-1].end:  # 4111 1111 1111 1111@example.com
            spans[-1] = replace(spans[-1], end=max(spans[-1].end, span.end))
        else:
            spans.append(span)
    return spans


def luhn(digits: str) -> bool:
    """Tell whether the last digit is the correct check digit: ISO/IEC 7812-1, annex B."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


@dataclass(frozen=True, slots=True)
class _Digit:
    """A digit, and its position in the text: both digits of "forty one" have the same position."""

    value: str
    start: int
    end: int


def _rows(text: str) -> Iterator[list[_Digit]]:
    """Yield each run of digits, which have only gaps (`GAP`) between them."""
    row: list[_Digit] = []
    for piece in PIECE.finditer(text):
        if row and not JOINED.fullmatch(text, row[-1].end, piece.start()):
            yield row
            row = []
        row += [_Digit(value, piece.start(), piece.end()) for value in _digits(piece)]
    if row:
        yield row


def _digits(piece: re.Match[str]) -> str:
    found = {name: text.lower() for name, text in piece.groupdict().items() if text}
    match found:
        case {"digit": digit}:
            return str(int(digit))  # a digit of any script
        case {"tens": tens}:
            return TENS[tens] + ONES[found.get("tens_ones", "zero")]
        case {"times": times}:
            one = found.get("times_digit") or ONES[found["times_ones"]]
            return str(int(one)) * TIMES[times]
    return WORDS[found["word"]]


def _numbers(text: str, row: list[_Digit], *, may_go_on: bool) -> Iterator[Span]:
    """Yield the card numbers of a run, and the phone numbers in the rest of it."""
    begun = 0
    for start, stop in _cards("".join(digit.value for digit in row)):
        yield from _phone(text, row[begun:start])
        yield Span(row[start].start, row[stop - 1].end, "[card]")
        begun = stop
    rest = row[begun:]
    if may_go_on and len(rest) >= UNFINISHED and HANGING.fullmatch(text, rest[-1].end):
        yield Span(rest[0].start, rest[-1].end, "[digits]")
    else:
        yield from _phone(text, rest)


def _cards(digits: str) -> list[tuple[int, int]]:
    """Find the positions of card numbers; overlapping and adjacent ones are merged."""
    places: list[tuple[int, int]] = []
    for start in range(len(digits) - CARD.start + 1):
        for length in reversed(CARD):
            if start + length <= len(digits) and luhn(digits[start : start + length]):
                if places and start <= places[-1][1]:
                    places[-1] = places[-1][0], max(places[-1][1], start + length)
                else:
                    places.append((start, start + length))
                break
    return places


def _phone(text: str, digits: list[_Digit]) -> Iterator[Span]:
    if not digits:
        return
    start, end = digits[0].start, digits[-1].end
    plus = PLUS.search(text, max(0, start - 8), start)
    if len(digits) in (PHONE_AFTER_PLUS if plus else PHONE) or LOCAL.fullmatch(text, start, end):
        yield Span(plus.start() if plus else start, end, "[phone]")


def _redacted(text: str) -> str:
    spans = find(text)
    return _outside(text, spans, 0, len(text)) if spans else text


def _walk(value: Any) -> Any:
    """Return a JSON value with matches replaced; the same object if there are none."""
    if isinstance(value, str):
        return _redacted(value)
    if isinstance(value, list):
        return _same(value, [_walk(item) for item in value])
    if isinstance(value, dict):
        return _same(value, {key: _member(value, key) for key in value})
    return value


def _member(message: dict[str, Any], key: str) -> Any:
    elements = message[key]
    are_elements = key == "elements" and isinstance(elements, list) and all(isinstance(one, dict) for one in elements)
    return _elements(elements, is_partial=message.get("type") == "partial") if are_elements else _walk(elements)


def _same(old: Any, new: Any) -> Any:
    pairs = zip(old.values(), new.values(), strict=True) if isinstance(old, dict) else zip(old, new, strict=True)
    return old if all(before is after for before, after in pairs) else new


def _value(element: dict[str, Any]) -> str:
    """Return an element's value as clients show it, whatever its type is."""
    return str(element.get("value", ""))


def _elements(elements: list[dict[str, Any]], *, is_partial: bool) -> list[dict[str, Any]]:
    """Search elements as one text. The first element of a match gets its name, and the times of all its elements."""
    # Only Rev.ai's finals have elements that separate words.
    glue = "" if any(element.get("type") == "punct" for element in elements) else " "
    text = glue.join(map(_value, elements))
    spans = find(text, may_go_on=is_partial)
    if not spans:
        return elements
    kept: list[dict[str, Any]] = []
    begin = 0
    for element in elements:
        end = begin + len(_value(element))
        here = [span for span in spans if span.start < end and begin < span.end]
        if here and here[0].start < begin:  # the match began in an earlier element
            _stretch(kept[-1], element)
        value = _outside(text, here, begin, end)
        if not here:
            kept.append(element)
        elif value:
            names = any(span.start >= begin for span in here)
            kept.append({**element, "value": value} | ({"type": "text"} if names else {}))
        begin = end + len(glue)
    return kept


def _outside(text: str, spans: list[Span], begin: int, end: int) -> str:
    """Return a part of a text without the text in spans, but with the names of spans that begin in it."""
    pieces = []
    for span in spans:
        if span.start >= begin:
            pieces += [text[begin : span.start], span.name]
        begin = min(span.end, end)
    return "".join([*pieces, text[begin:end]])


def _stretch(name: dict[str, Any], element: dict[str, Any]) -> None:
    """Extend an element that replaces several to the end of this one."""
    if "ts" in element:
        name.setdefault("ts", element["ts"])  # the match began with a "+", which has no times
    if "end_ts" in element:
        name["end_ts"] = element["end_ts"]
