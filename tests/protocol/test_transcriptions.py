"""OpenAI's form and its answers: whatever was heard can be written, and the pieces add up to the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.api_errors import OF_CLOSE, ApiError
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import Element, Final
from speechbridge.protocol.transcriptions import FORMATS, Form, Transcription, delta, done, logprobs, texts_of

times = st.floats(0, 1e6)
elements = st.builds(
    Element,
    st.text(max_size=10),
    st.sampled_from(["text", "punct", "other"]),
    times | st.none(),
    times | st.none(),
    st.floats(allow_nan=False, allow_infinity=False) | st.none(),
)
finals = st.lists(st.builds(Final, times, times, st.lists(elements, max_size=4).map(tuple)), max_size=4)


@given(finals, st.sampled_from(FORMATS), st.floats(0, 1e6))
def test_whatever_was_heard_is_written(heard: list[Final], form: str, seconds: float) -> None:
    asked = Form(response_format=form, granularities=frozenset({"word", "segment"}), has_logprobs=True)
    text, media = Transcription(heard, seconds, "en").answer(asked)
    assert text.encode() or not texts_of(heard)
    if media == "application/json":
        answer = json.loads(text, parse_constant=_refuse)
        assert answer["text"] == "".join(segment["text"] for segment in answer.get("segments", [answer]))


@given(finals)
def test_deltas_add_up_to_the_text(heard: list[Final]) -> None:
    whole = Transcription(heard, 1.0, "en")
    deltas = [json.loads(delta(final, text, has_logprobs=False)) for final, text in texts_of(heard)]
    event = json.loads(done(whole, has_logprobs=False))
    assert "".join(one["delta"] for one in deltas) == event["text"] == whole.text
    assert {one["type"] for one in deltas} <= {"transcript.text.delta"}


@given(finals)
def test_tokens_add_up_to_the_text_but_for_blanks(heard: list[Final]) -> None:
    tokens = "".join(one["token"] for one in logprobs(texts_of(heard)))
    assert "".join(tokens.split()) == "".join(Transcription(heard, 1.0, "en").text.split())


@given(st.lists(st.tuples(st.text() | st.sampled_from(["language", "stream", "response_format"]), st.text())))
def test_any_fields_are_read_or_refused(fields: list[tuple[str, str]]) -> None:
    try:
        form = Form.read(fields)
    except ApiError as error:
        refused = json.loads(error.encode())["error"]
    else:
        refused = None
        assert form.response_format in FORMATS
    assert refused is None or (refused["type"], bool(refused["param"])) == ("invalid_request_error", True)


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ([], Form()),
        ([("model", "x"), ("stream", "True"), ("response_format", "text")], Form(True, "", "text", is_streamed=True)),
        ([("include[]", "logprobs"), ("language", "en")], Form(language="en", has_logprobs=True)),
        ([("include", "logprobs"), ("stream", "false")], Form(has_logprobs=True)),
        (
            [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
            Form(granularities=frozenset({"word", "segment"})),
        ),
        ([("languages[]", "de"), ("prompt", "p"), ("chunking_strategy[type]", "server_vad")], Form(language="de")),
        ([("languages[]", "de"), ("languages[]", "en"), ("temperature", "warm")], Form()),
    ],
)
def test_fields_are_read_as_clients_spell_them(fields: list[tuple[str, str]], form: Form) -> None:
    assert Form.read(fields) == form


@pytest.mark.parametrize("code", CloseCode)
def test_each_close_code_has_a_status(code: CloseCode) -> None:
    error = ApiError.of(Close(code, "why"))
    assert error.status == OF_CLOSE.get(code, (500,))[0]
    assert json.loads(error.encode())["error"]["message"] == "why"


def test_a_status_that_clients_retry_is_one_that_may_succeed_later() -> None:
    for code, (status, _, _) in OF_CLOSE.items():
        if code != CloseCode.NO_CREDITS:  # OpenAI's status for it is 429
            assert Close(code).is_retryable == (status == 429 or status >= 500)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
