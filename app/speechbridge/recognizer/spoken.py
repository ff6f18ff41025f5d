"""Turns written English words into spoken ones, for the aligner: "Mr." is mister, "$5" is five dollars. Pure.

Only the times of words depend on this. A word that is spoken in another way (such as 1984 as a house number) is still
aligned, a little less exactly.
"""

from __future__ import annotations

import re

SAID = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miz",
    "dr": "doctor",
    "st": "saint",
    "jr": "junior",
    "sr": "senior",
    "vs": "versus",
    "etc": "et cetera",
    "no": "no",
    "&": "and",
    "%": "percent",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "#": "number",
    "$": "dollars",
    "\u20ac": "euros",
    "\u00a3": "pounds",
    "\u00b0": "degrees",
}
# fmt: off
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth"}

PART = re.compile(r"[A-Za-z']+|\d+(?:,\d{3})*(?:\.\d+)?|[^\w\s]")
CURRENCY = re.compile(r"([$\u20ac\u00a3])([\d.,]*\d)")
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)
LONGEST_NUMBER = 10  # digits; a longer one is spelled digit by digit


def spoken(word: str) -> list[str]:
    """Return the spoken words for a written one, in lower case; none for punctuation."""
    word = CURRENCY.sub(r"\2\1", word.replace("\u2019", "'"))
    word = ORDINAL.sub(lambda found: f" {' '.join(ordinal(found[1]))} ", word)
    said: list[str] = []
    for part in PART.findall(word):
        if part[0].isdigit():
            said += number(part)
        elif part.lower() in SAID:
            said += SAID[part.lower()].split()
        elif letters := part.strip("'").lower():
            said += [letters] if letters.isalpha() or "'" in letters else []
    return said


def number(digits: str) -> list[str]:
    """Spell a number: "1,250.5" is one thousand two hundred fifty point five."""
    whole, _, decimals = digits.replace(",", "").partition(".")
    said = _whole(whole, is_grouped="," in digits)
    return [*said, "point", *(ONES[int(digit)] for digit in decimals)] if decimals else said


def ordinal(digits: str) -> list[str]:
    """Spell an ordinal number: "21" is twenty first."""
    *before, last = number(digits)
    if last in ORDINALS:
        return [*before, ORDINALS[last]]
    return [*before, f"{last[:-1]}ieth" if last.endswith("y") else f"{last}h" if last.endswith("t") else f"{last}th"]


def _whole(digits: str, *, is_grouped: bool) -> list[str]:
    if len(digits) > LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return [ONES[int(digit)] for digit in digits]
    value = int(digits)
    is_year = len(digits) == 4 and not is_grouped and 1100 <= value < 2100 and value // 10 % 100 != 0
    if is_year:
        rest = _below_hundred(value % 100) if value % 100 > 9 else ["oh", ONES[value % 10]]
        return [*_below_hundred(value // 100), *(rest if value % 100 else ["hundred"])]
    return _spelled(value)


def _spelled(value: int) -> list[str]:
    for scale, name in SCALES:
        if value >= scale:
            rest = _spelled(value % scale) if value % scale else []
            return [*_spelled(value // scale), name, *rest]
    return _below_hundred(value)


def _below_hundred(value: int) -> list[str]:
    if value < 20:
        return [ONES[value]]
    return [TENS[value // 10], ONES[value % 10]] if value % 10 else [TENS[value // 10]]
