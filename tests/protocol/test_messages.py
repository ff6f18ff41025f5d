"""What a server says on a stream: read with tolerance, written strictly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.messages import (
    Connected,
    Element,
    Final,
    Partial,
    end_of_final,
    end_of_words,
    parse_message,
)

times = st.floats(0, 1e6)
elements = st.builds(
    Element,
    st.text(),
    st.sampled_from(["text", "punct", "unknown"]),
    st.none() | times,
    st.none() | times,
    st.none() | st.floats(0, 1),
)
hypotheses = (times, times, st.lists(elements).map(tuple))


@given(st.builds(Partial, *hypotheses) | st.builds(Final, *hypotheses) | st.builds(Connected, st.text()))
def test_messages_come_back_as_they_were(message: Connected | Partial | Final) -> None:
    assert parse_message(message.encode()) == message


def test_partials_join_with_spaces_and_finals_with_nothing() -> None:
    assert Partial(0, 1, (Element("one"), Element("tooth"))).text == "one tooth"
    assert (
        Final(0, 1, (Element("One"), Element(" ", "punct"), Element("tooth"), Element(".", "punct"))).text
        == "One tooth."
    )


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "1", "null", "{}"])
def test_what_is_no_message_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_message(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "value", "ts", "elements"]), inner),
    max_leaves=10,
)


@given(st.sampled_from(["connected", "partial", "final", "other"]), json_values, json_values)
def test_fields_of_odd_types_are_tolerated(kind: str, elements: object, ts: object) -> None:
    """speaker_id comes as number or string, elements may be missing: whatever it is, no exception of ours."""
    message = parse_message(json.dumps({"type": kind, "elements": elements, "ts": ts, "speaker_id": "1000"}))
    assert message is None or message.encode()


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('{"type": "final", "ts": 0.5, "end_ts": 2.5, "elements": [{"value": "two"}]}', 2.5),
        ('{"end_ts": 3, "type": "final"}', 3.0),
        ('{"type": "final"}', None),
        ('{"type": "final", "end_ts": "soon"}', None),
        ('{"type": "final", "end_ts": NaN}', None),
        ('{"type": "partial", "end_ts": 2.5, "elements": [{"value": "final"}]}', None),
        ('["final"]', None),
        ('"final"', None),
        ('{"type": "final", "end_ts": 2.5', None),
        ('{"type": "final", "end_ts": ' + "[" * 100_000, None),
        ("", None),
    ],
)
def test_a_final_settles_the_audio_up_to_its_end_and_nothing_else_does(text: str, end: float | None) -> None:
    assert end_of_final(text) == end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (Final(0.5, 2.5, (Element("two"),)).encode(), 2.5),
        (Partial(0.5, 1e-3, (Element("two"),)).encode(), 1e-3),
        (Final(0.5, 2.5).encode(), None),
        ('{"type":"partial","ts":0.5,"end_ts":2.5,"elements":[{"value":"two"}]}', 2.5),
        ('{"elements": [{"value": "two"}], "end_ts": 3, "type": "final"}', 3.0),
        ('{"type": "partial", "ts": 0.5, "end_ts": NaN, "elements": [{"value": "two"}]}', 0.0),
        ('{"type": "partial", "ts": 0.5, "end_ts": 1e999, "elements": [{"value": "two"}]}', None),
        ('{"type": "partial", "ts": 0.5, "end_ts": 1.2.3, "elements": [{"value": "two"}]}', None),
        ('{"type": "final", "elements": [{"value": "two"}]}', 0.0),
        ('{"type": "other", "ts": 0, "end_ts": 2.5, "value": 1}', None),
        ('["value"]', None),
        ('{"value": ' + "[" * 100_000, None),
        ("", None),
    ],
)
def test_a_hypothesis_with_elements_says_up_to_where_it_goes(text: str, end: float | None) -> None:
    assert end_of_words(text) == end
