"""The items of a transcription: each row of the table, and what holds for any order of what comes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.protocol.openai import WrongEvent
from speechbridge.protocol.openai_items import Items

DELTA, COMPLETED = ".delta", ".completed"


def partial(text: str, end_ts: float, ts: float = 0.0) -> Partial:
    return Partial(ts, end_ts, tuple(Element(word) for word in text.split()))


def final(text: str, ts: float = 0.0, end_ts: float = 1.0) -> Final:
    elements: list[Element] = []
    for word in text.split():
        bare = word.rstrip(".,")
        elements += [Element(" ", "punct")] if elements else []
        elements += [Element(bare, "text", ts, end_ts, 0.5)] + [Element(mark, "punct") for mark in word[len(bare) :]]
    return Final(ts, end_ts, tuple(elements))


def items(*, has_vad: bool = True, has_logprobs: bool = False) -> Items:
    numbers = count(1)
    made = Items(lambda: f"item_{next(numbers)}")
    made.has_vad, made.has_logprobs = has_vad, has_logprobs
    return made


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].rpartition(".")[2] for event in events]


def test_an_utterance_with_vad() -> None:
    made = items()
    [started] = made.add(partial("hello", 1.0, ts=0.25))
    assert started == {"type": "input_audio_buffer.speech_started", "audio_start_ms": 250, "item_id": "item_1"}
    [delta] = made.add(partial("hello my dear", 2.0))
    assert (delta["delta"], delta["item_id"]) == ("hello", "item_1")
    events = made.add(final("hello, my dear.", 0.2, 3.5))
    assert kinds(events) == ["speech_stopped", "committed", "added", "done", "delta", "completed"]
    assert events[0]["audio_end_ms"] == 3500
    assert events[1] == {"type": "input_audio_buffer.committed", "previous_item_id": None, "item_id": "item_1"}
    assert events[2]["item"]["id"] == "item_1"
    assert events[4]["delta"] == " my dear."
    assert events[5]["transcript"] == "hello, my dear."
    assert events[5]["usage"] == {"type": "duration", "seconds": 3.25}
    following = made.add(final("More.", 4.0, 5.0))
    assert kinds(following)[0] == "speech_started"
    assert following[2]["previous_item_id"] == "item_1"


def test_the_beta_has_one_event_for_an_item() -> None:
    made = items()
    made.is_beta = True
    assert "created" in kinds(made.add(final("word")))


def test_what_was_shown_and_is_not_said_after_all_completes_as_nothing() -> None:
    made = items()
    made.add(partial("hm", 1.0))
    events = made.add(Final(0.0, 1.0))
    assert kinds(events) == ["speech_stopped", "committed", "added", "done", "completed"]
    assert events[-1]["transcript"] == ""
    assert made.add(Final(1.0, 2.0)) == []


def test_without_vad_all_until_the_commit_is_one_item() -> None:
    made = items(has_vad=False)
    assert kinds(made.add(final("One."))) == ["delta"]
    assert made.add(final("Two.", 1.0, 2.0))[0]["delta"] == " Two."
    assert kinds(made.commit(0.0, 2.5)) == ["committed", "added", "done"]
    assert kinds(made.add(final("Three.", 2.0, 2.5))) == ["delta"]
    [completed] = made.flushed()
    assert completed["transcript"] == "One. Two. Three."
    assert completed["usage"]["seconds"] == 2.5
    assert made.flushed() == []


def test_a_commit_of_silence_completes_as_nothing() -> None:
    made = items(has_vad=False)
    made.commit(0.0, 1.0)
    [completed] = made.flushed()
    assert completed["transcript"] == ""


def test_a_commit_of_no_audio_is_refused() -> None:
    with pytest.raises(WrongEvent) as caught:
        items().commit(1.0, 1.0)
    assert caught.value.code == "input_audio_buffer_commit_empty"


def test_a_commit_with_vad_takes_the_open_item() -> None:
    made = items()
    made.add(partial("well", 1.0))
    assert kinds(made.commit(0.0, 2.0)) == ["speech_stopped", "committed", "added", "done"]
    assert kinds(made.add(final("Well."))) == ["delta"]
    assert kinds(made.flushed()) == ["completed"]


def test_what_is_cleared_is_in_no_transcript() -> None:
    made = items(has_vad=False)
    made.add(final("Forget this."))
    assert made.clear() == [{"type": "input_audio_buffer.cleared"}]
    assert made.add(final("And this.")) == []
    assert made.flushed() == []
    made.add(final("Keep this.", 2.0, 3.0))
    made.commit(2.0, 3.0)
    assert made.flushed()[0]["transcript"] == "Keep this."


def test_logprobs_are_those_of_the_words_and_their_tokens_make_up_the_transcript() -> None:
    made = items(has_logprobs=True)
    events = made.add(final("Well, then."))
    for event in (events[-2], events[-1]):
        assert [token["token"] for token in event["logprobs"]] == ["Well,", " then."]
        assert {token["logprob"] for token in event["logprobs"]} == {-0.693147}
        assert bytes(event["logprobs"][1]["bytes"]) == b" then."
    without = made.add(Final(1.0, 2.0, (Element("word"),)))
    assert "logprobs" not in without[-1]


texts = st.lists(st.sampled_from(["a", "b.", "c,", "d"]), max_size=4).map(" ".join)
steps = st.lists(
    st.tuples(st.just("partial"), texts)
    | st.tuples(st.just("final"), texts)
    | st.tuples(st.sampled_from(["commit", "clear", "update", "vad"]), st.just("")),
    max_size=30,
)


@given(order=steps, has_vad=st.booleans())
def test_any_order_gives_well_formed_items(order: list[tuple[str, str]], *, has_vad: bool) -> None:
    """Each item is committed once and completes once, and deltas belong to an item that does."""
    made, events, now, commits, begin = items(has_vad=has_vad), [], 0.0, 0, 0.0
    for step, text in order:
        now += 1.0
        match step:
            case "partial":
                events += made.add(partial(text, now, now - 1))
            case "final":
                events += made.add(final(text, now - 1, now))
            case "commit":
                events += made.commit(begin, now)
                begin, commits = now, commits + 1
                events += made.add(final(text, now - 1, now)) + made.flushed()
            case "clear":
                events += made.clear() + made.add(final("gone")) + made.flushed()
                begin = now
            case "update":
                events += made.flushed()
            case "vad":
                made.has_vad = not made.has_vad
    events += made.commit(begin, now + 1) + made.flushed()
    committed = [event["item_id"] for event in events if event["type"].endswith("committed")]
    completed = [event["item_id"] for event in events if event["type"].endswith(COMPLETED)]
    assert committed == completed
    assert len(set(committed)) == len(committed) >= commits + 1
    assert {event["item_id"] for event in events if event["type"].endswith(DELTA)} <= set(committed)
    previous = [event["previous_item_id"] for event in events if event["type"].endswith("committed")]
    assert previous == [None, *committed[:-1]]
