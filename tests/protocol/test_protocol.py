"""The wire: what is read, what is written, what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.close import END_OF_INPUT, LIFETIME_REACHED, NO_DATA, REASON_BYTES, Close, fit_reason
from speechbridge.protocol.messages import Connected, Element, Final, Partial, end_of_final, parse_message
from speechbridge.protocol.request import BadRequest, ContentType, StreamRequest
from tests.helpers.secrets import secret

RAW = "audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1"


def test_a_query_is_read_percent_encoded_or_not() -> None:
    """Python encodes it; Node and Java send `;` and `/` as they are."""
    encoded = StreamRequest.parse("access_token=t&content_type=" + RAW.replace(";", "%3B").replace("/", "%2F"))
    plain = StreamRequest.parse("content_type=" + RAW + "&access_token=t")
    assert encoded == plain == StreamRequest(ContentType.raw(), {}, "t")
    assert str(plain.content_type) == RAW


def test_options_have_their_types_and_strangers_are_ignored() -> None:
    request = StreamRequest.parse(
        f"content_type={RAW}&start_ts=1.5&filter_profanity=TRUE&detailed_partials=false&metadata=a%26b"
        "&delete_after_seconds=0&max_segment_duration_seconds=5&user_agent=x&nonsense=1&language=",
    )
    assert request.options == {
        "start_ts": 1.5,
        "filter_profanity": True,
        "detailed_partials": False,
        "metadata": "a&b",
        "delete_after_seconds": 0,
        "max_segment_duration_seconds": 5,
    }


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "content_type is missing"),
        ("content_type=", "content_type is missing"),
        ("content_type=audio/mpeg", "send audio/x-raw, audio/x-wav or audio/x-flac"),
        ("content_type=audio/x-raw", "lacks layout, rate, format, channels"),
        ("content_type=audio/x-raw;layout=interleaved;rate=16000;channels=1", "lacks format"),
        (f"content_type={RAW.replace('16000', '7999')}", "from 8000 to 48000"),
        (f"content_type={RAW.replace('16000', '1e4')}", "from 8000 to 48000"),
        (f"content_type={RAW.replace('channels=1', 'channels=11')}", "from 1 to 10"),
        (f"content_type={RAW.replace('interleaved', 'sideways')}", "layout='sideways'"),
        (f"content_type={RAW.replace('S16LE', 'S16LE%0A2026-01-01 CRITICAL [-] died')}", "format='S16LE.*send S16LE"),
        (f"content_type={RAW}&start_ts=nan", "0 or more"),
        (f"content_type={RAW}&start_ts=-1", "0 or more"),
        (f"content_type={RAW}&filter_profanity=perhaps", "true or false"),
        (f"content_type={RAW}&max_segment_duration_seconds=31", "from 5 to 30"),
        (f"content_type={RAW}&" + "&".join(f"a{n}=1" for n in range(101)), "more than 100"),
    ],
)
def test_a_bad_request_says_what_to_send(query: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        StreamRequest.parse(query)


def test_a_request_survives_the_way_through_a_url_and_hides_its_token() -> None:
    request = StreamRequest(ContentType.raw(44100, 2), {"metadata": "ä &;=", "filter_profanity": True}, secret())
    assert StreamRequest.parse(request.query()) == request
    assert secret() not in repr(request)


@given(st.text())
def test_any_query_is_read_or_refused_with_a_reason_that_fits(query: str) -> None:
    try:
        StreamRequest.parse(query)
    except BadRequest as error:
        reason = str(error)
        assert reason == fit_reason(reason)  # some queries are fine, so pytest.raises cannot say it


@given(st.text())
def test_a_reason_is_cut_at_a_character(reason: str) -> None:
    fitted = fit_reason(reason)
    assert len(fitted.encode()) <= REASON_BYTES
    assert reason.encode("utf-8", "replace").decode().startswith(fitted)


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


def test_only_the_end_of_input_after_eos_is_a_success() -> None:
    """1000 means three things."""
    assert Close(1000, END_OF_INPUT).is_success(eos_sent=True)
    assert not Close(1000, END_OF_INPUT).is_success(eos_sent=False)
    assert not Close(1000, NO_DATA).is_success(eos_sent=True)
    assert not Close(1000, LIFETIME_REACHED).is_success(eos_sent=True)
    assert not Close(4010).is_success(eos_sent=True)


@pytest.mark.parametrize(
    ("code", "for_client"),
    [
        (1000, 1000),
        (4013, 4013),
        (1011, 1011),
        (1006, 1011),
        (1005, 1011),
        (0, 1011),
        (1012, 4010),
        (1013, 4013),
        (5000, 1011),
    ],
)
def test_codes_that_a_client_may_not_see_are_replaced(code: int, for_client: int) -> None:
    assert Close(code, "why").for_client() == Close(for_client, "why")


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
