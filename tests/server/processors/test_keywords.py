"""Keywords are found in finals, marked there, and told to the log."""

from __future__ import annotations

import json
import logging

import pytest

from speechbridge.server.processors.keywords import Alerts
from speechbridge.testing.script import final, partial

alerts = Alerts(["refund", " my  lawyer ", "c++", ""])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["a", "Refund", "please"], ["refund"]),
        (["My", "lawyer", "wants", "a", "refund"], ["my lawyer", "refund"]),
        (["refunds"], []),
        (["I", "know", "C++"], ["c++"]),
        (["my", "own", "lawyer"], []),
    ],
)
def test_a_final_with_a_keyword_says_so(words: list[str], found: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    text = final(*words, ts=1.0, end_ts=2.0).text
    answer = alerts(text)
    assert json.loads(answer) == json.loads(text) | ({"alerts": found} if found else {})
    assert (answer == text) == (not found)
    assert [record.__dict__["alerts"] for record in caplog.records] == ([found] if found else [])


@pytest.mark.parametrize("text", [partial("refund").text, "refund", '{"type": "final"}', '{"type": "other"}'])
def test_what_is_no_final_with_a_keyword_passes(text: str) -> None:
    assert alerts(text) == text


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("mr dashwood", ["Mr.", "Dashwood"]),
        ("Mr. Dashwood", ["Mr", "Dashwood"]),
        ("cold hearted", ["cold-hearted"]),
        ("cold-hearted", ["cold", "hearted"]),
        ("$5", ["for", "$5"]),
        ("12%", ["12%", "more"]),
        ("p.m.", ["5", "p.m."]),
        ("-", ["a", "-"]),
    ],
)
def test_a_keyword_is_found_however_it_is_written(keyword: str, words: list[str]) -> None:
    assert f'"alerts": ["{keyword}"]' in Alerts([keyword])(final(*words).text)


@pytest.mark.parametrize(("keyword", "words"), [("$5", ["$50"]), ("mr", ["Mrs."]), ("5", ["5.5"]), ("us", ["U.S."])])
def test_a_part_of_a_word_is_not_the_keyword(keyword: str, words: list[str]) -> None:
    assert "alerts" not in Alerts([keyword])(final(*words).text)


def test_they_are_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHBRIDGE_KEYWORDS", "one, two three")
    assert '"alerts": ["two three"]' in Alerts()(final("two", "three").text)


def test_a_final_of_words_only_is_read_with_spaces() -> None:
    words = [{"type": "text", "value": word} for word in ("call", "my", "lawyer")]
    assert '"alerts": ["my lawyer"]' in alerts(json.dumps({"type": "final", "elements": words}))
