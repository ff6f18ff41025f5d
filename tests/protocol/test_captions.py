"""Captions: every word once and in order, cues that a player accepts, whatever the recognizer's times are."""

from __future__ import annotations

import html
import json
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.captions import LINE, LONGEST, SHORTEST, Cue, cues, line, to_json, to_srt, to_text, to_vtt
from speechbridge.protocol.messages import Element, Final, Partial

SRT_TIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")
VTT_TIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")


def said(text: str, ts: float = 0.0, pace: float = 0.3) -> Final:
    """Return `text` as a recognizer gives it: a word every `pace` seconds from `ts` on, punctuation apart."""
    elements: list[Element] = []
    at = ts
    for word in text.split():
        letters = word.rstrip(".,?")
        elements += [Element(letters, ts=at, end_ts=at + pace), Element(word[len(letters) :] + " ", "punct")]
        at += pace
    return Final(ts, at, tuple(elements))


def milliseconds(hours: str, minutes: str, seconds: str, ms: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(ms)


def block(time: re.Pattern[str], lines: list[str]) -> Cue:
    numbers = time.fullmatch(lines[0])
    assert numbers, lines[0]
    assert 1 <= len(lines[1:]) <= 2
    assert all(lines[1:])
    groups = numbers.groups()
    return Cue(milliseconds(*groups[:4]), milliseconds(*groups[4:]), tuple(lines[1:]))


def parse_srt(text: str) -> list[Cue]:
    found = []
    for number, part in enumerate(text.removesuffix("\n").split("\n\n") if text else [], 1):
        head, *lines = part.split("\n")
        assert head == str(number)
        found.append(block(SRT_TIME, lines))
    return found


def parse_vtt(text: str) -> list[Cue]:
    head, *parts = text.removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    found = []
    for part in parts:
        cue = block(VTT_TIME, part.split("\n"))
        for shown in cue.lines:
            assert "<" not in shown
            assert "-->" not in shown
        found.append(Cue(cue.start, cue.end, tuple(html.unescape(shown) for shown in cue.lines)))
    return found


def shown(found: list[Cue]) -> list[str]:
    return " ".join(text for cue in found for text in cue.lines).split()


times = st.none() | st.floats(-1, 30, allow_nan=False) | st.sampled_from([float("nan"), float("inf"), 1e308, 4e5])
words = st.text(st.sampled_from("abXYZ09&<>-;.é欢迎-->"), min_size=1, max_size=12) | st.just("x" * 60)
elements = st.builds(Element, words, st.just("text"), times, times, times) | st.builds(
    Element,
    st.sampled_from([" ", ", ", ". ", "", "\n", "\x1b[2J", "\ud800", "two words ", "-->"]),
    st.sampled_from(["punct", "text", "unknown"]),
)
transcripts = st.lists(
    st.builds(Final, st.floats(0, 400), st.floats(0, 400), st.lists(elements, max_size=40).map(tuple)), max_size=5
)


@given(transcripts)
def test_every_word_is_there_once_and_in_order(finals: list[Final]) -> None:
    """Chinese and Japanese may be cut between words without a space: there the letters count."""
    letters = "".join(word for final in finals for word in line(final).split())
    assert "".join(to_text(finals).split()) == letters
    assert "".join(shown(parse_srt(to_srt(finals)))) == letters
    assert "".join(shown(parse_vtt(to_vtt(finals)))) == letters
    monologues = json.loads(to_json(finals))["monologues"]
    assert "".join("".join(e["value"] for m in monologues for e in m["elements"]).split()) == letters


@given(st.lists(st.text("abc&<>", min_size=1, max_size=50), max_size=60), st.floats(0, 2))
def test_words_stay_apart_and_whole(texts: list[str], pace: float) -> None:
    final = said(" ".join(texts), pace=pace)
    assert shown(parse_srt(to_srt([final]))) == shown(parse_vtt(to_vtt([final]))) == texts


@given(transcripts)
def test_cues_are_in_order_and_never_overlap(finals: list[Final]) -> None:
    found = cues(finals)
    assert parse_srt(to_srt(finals)) == parse_vtt(to_vtt(finals)) == found
    for cue in found:
        assert cue.start < cue.end <= cue.start + LONGEST
        assert all(len(text) <= LINE or len(text.split()) == 1 for text in cue.lines)
    for cue, following in pairwise(found):
        assert cue.end <= following.start
        assert cue.end - cue.start >= min(SHORTEST, following.start - cue.start)


def test_a_long_final_is_cut_after_a_sentence_and_at_a_silence() -> None:
    finals = [
        said("I shall not be long. Wait here for me until the clock on the tower has struck nine, and then go home."),
        Final(60, 70, said("one two", 60).elements + said("three four", 62).elements),
    ]
    assert [cue.lines for cue in cues(finals)] == [
        ("I shall not be long.",),
        ("Wait here for me until the clock on the", "tower has struck nine, and then go home."),
        ("one two",),
        ("three four",),
    ]


def test_an_abbreviations_full_stop_ends_no_sentence() -> None:
    text = "She had hoped to hear something about the house from Mr. Dashwood, who came at half past nine this morning."
    words = [Element(word, ts=n / 2, end_ts=n / 2 + 0.5) for n, word in enumerate(text.split())]
    final = Final(0, 10, tuple(one for word in words for one in (word, Element(" ", "punct"))))
    lines = [line for cue in cues([final]) for line in cue.lines]
    assert not any(line.endswith("Mr.") for line in lines)
    assert any(line.endswith("Dashwood,") for line in lines)


def test_a_line_breaks_at_punctuation_rather_than_in_the_middle() -> None:
    (cue,) = cues([said("I told him so yesterday, and then we all went home again", pace=0.2)])
    assert cue.lines == ("I told him so yesterday,", "and then we all went home again")


def test_money_percentages_and_quotations_stay_whole() -> None:
    text = (
        'He said, "It costs $3.50, or 12% more." Then he left with Dr. Watson at 5 p.m. and nobody has seen him since.'
    )
    words = text.split()
    shown = " ".join(" ".join(cue.lines) for cue in cues([said(text)]))
    assert shown.split() == words


def test_times_are_those_of_the_words() -> None:
    assert cues([said("go forward ten meters", 0.5)]) == [Cue(500, 1700, ("go forward ten meters",))]


def test_a_short_word_is_shown_long_enough_to_be_read_if_nothing_follows() -> None:
    assert cues([said("no", 1, 0.1)]) == [Cue(1000, 1000 + SHORTEST, ("no",))]
    assert cues([said("no", 1, 0.1), said("yes", 1.3, 0.1)])[0] == Cue(1000, 1300, ("no",))


def test_words_without_times_share_that_of_their_final() -> None:
    final = Final(10, 30, tuple(Element(text) for text in " ".join(["word"] * 20).replace(" ", "| |").split("|")))
    found = cues([final])
    assert (found[0].start, found[-1].end) == (10_000, 30_000)
    assert len(found) > 2  # 20 s do not fit two cues


def test_without_any_time_captions_run_at_reading_speed() -> None:
    found = cues([Final(0, 0, (Element("never been timed at all"),)), Final(0, 0, (Element("at all"),))])
    assert [cue.start for cue in found] == [0, 23 * 50]


def test_a_word_longer_than_a_line_has_one_to_itself() -> None:
    assert cues([said(f"so {'x' * 60} it is")])[0].lines == ("so", "x" * 60)


def test_chinese_is_cut_between_words_and_counts_double() -> None:
    found = cues([Final(0, 9, tuple(Element("你好", ts=n * 0.2, end_ts=n * 0.2 + 0.2) for n in range(30)))])
    assert max(len(text) for cue in found for text in cue.lines) <= LINE // 2
    assert "".join(text for cue in found for text in cue.lines) == "你好" * 30


def test_hours_may_have_three_digits() -> None:
    assert "123:00:00,000 --> 123:00:01,000" in to_srt([said("late", 123 * 3600, 1)])
    assert "123:00:00.000 --> 123:00:01.000" in to_vtt([said("late", 123 * 3600, 1)])


def test_nothing_said_is_nothing_written() -> None:
    empty = [Final(0, 1), Final(1, 2, (Element(" ", "punct"),))]
    assert (to_text(empty), to_srt(empty), to_vtt(empty)) == ("", "", "WEBVTT\n")
    assert json.loads(to_json([])) == {"monologues": []}


def test_a_line_cannot_steer_a_terminal() -> None:
    assert line(Partial(0, 1, (Element("a\x1b[2J\nb"), Element("\x9bc\ud800")))) == "a [2J b c"


def test_json_has_the_form_of_rev_ai_and_keeps_times() -> None:
    final = Final(0, 1, (Element("Hé", ts=0.25, end_ts=0.5, confidence=0.9), Element(".", "punct")))
    assert to_json([final]) == (
        '{"monologues": [{"speaker": 0, "elements": ['
        '{"type": "text", "value": "Hé", "ts": 0.25, "end_ts": 0.5, "confidence": 0.9}, '
        '{"type": "punct", "value": "."}]}]}\n'
    )
