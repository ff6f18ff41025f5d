"""Fuzz what reads the bytes of clients and upstreams: `python -m tests.fuzz --minutes 10`.

`speechbridge.protocol` reads their messages, `speechbridge.codecs` their audio (`--only codecs`) and files, with
FFmpeg's demuxers (`--only files`).

Each property holds for any input. Half of the inputs are random; half are nearly valid, and reach more of the code. The
suite runs it for a short while; what a long run finds becomes an example here.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechbridge.protocol import deepgram
from speechbridge.protocol.close import REASON_BYTES, Close, fit_reason
from speechbridge.protocol.deepgram import Listening
from speechbridge.protocol.messages import Connected, Element, Final, Partial, kind_of, parse_message
from speechbridge.protocol.openai import EVENTS, LOGPROBS, Settings, WrongEvent, read
from speechbridge.protocol.request import OPTIONS, BadRequest, ContentType, StreamRequest, encode_query
from tests.helpers.fuzzing import (
    ENTRIES,
    any_file_is_heard_or_refused,
    any_stream_is_heard_or_refused,
    spoilt,
    spoilt_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ROUND = 100  # inputs to one property before it is the next one's turn

DEEP = "[" * 100_000
HUGE = "1" + "0" * 400  # an int to JSON, and too large for a float

# What is nearly right: the protocol's own words, in any order and mangled.
numbers = st.integers() | st.floats() | st.sampled_from([int(HUGE), 16000, 8000, 48001, -1, 0])
kinds = st.sampled_from(["connected", "partial", "final", "other", "", None, 1])
words = st.sampled_from(
    ["audio/x-raw", "audio/x-wav", "interleaved", "S16LE", "true", "FALSE", "16000", "1", "1e5", "nan", ";", "=", " "]
)
values = st.text() | numbers.map(str) | words
parameters = st.sampled_from(["content_type", "access_token", "resume", *OPTIONS])
content_types = st.just(str(ContentType.raw())) | st.lists(
    words | st.tuples(st.sampled_from(["layout", "rate", "format", "channels"]), values).map("=".join) | st.text()
).map(";".join)
queries = st.one_of(
    st.text(),
    st.dictionaries(parameters | st.text(), values).map(encode_query),
    st.lists(st.tuples(parameters | st.text(), values).map("=".join)).map("&".join),
    st.tuples(content_types, st.dictionaries(parameters, values)).map(
        lambda both: encode_query({**both[1], "content_type": both[0]})
    ),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["type", "value", "ts", "end_ts", "elements"]) | st.text(), inner)
    ),
    max_leaves=10,
)
elements = st.lists(
    json_values
    | st.fixed_dictionaries(
        {}, optional={"type": kinds, "value": json_values, "ts": numbers, "confidence": json_values}
    )
)
messages = st.one_of(
    st.text(),
    json_values.map(json.dumps),
    st.fixed_dictionaries(
        {"type": kinds}, optional={"id": json_values, "ts": numbers, "end_ts": json_values, "elements": elements}
    ).map(json.dumps),
)


def cut(text: str, at: int) -> str:
    return text[: at % (len(text) + 1)]


# What OpenAI's realtime clients send.
realtime_names = st.sampled_from([
    "type", "event_id", "audio", "session", "input", "format", "rate", "turn_detection", "transcription", "language",
    "languages", "model", "include", "input_audio_format", "input_audio_transcription", "noise_reduction",
])  # fmt: skip
realtime_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.text()
    | st.sampled_from([*EVENTS, "transcription", "pcm16", "audio/pcm", "audio/pcmu", "server_vad", LOGPROBS, "AAAA"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(realtime_names | st.text(), inner),
    max_leaves=15,
)
realtime_sessions = st.dictionaries(realtime_names | st.text(), realtime_values)
realtime_events = st.one_of(
    st.text(),
    st.binary(),
    realtime_values.map(json.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(EVENTS)}, optional={"audio": st.text() | st.just("AAAA"), "session": realtime_sessions}
    ).map(json.dumps),
)

# What Deepgram's live clients ask for and send.
listen_names = st.sampled_from([
    "encoding", "sample_rate", "channels", "interim_results", "endpointing", "punctuate", "smart_format", "model",
    "utterance_end_ms", "vad_events", "language", "diarize", "profanity_filter",
])  # fmt: skip
listen_values = values | st.sampled_from(["linear16", "linear32", "mulaw", "ogg-opus", "8000", "1000", "true", "False"])
listen_queries = st.dictionaries(listen_names | st.text(), listen_values).map(encode_query) | st.text()
results = st.tuples(
    listen_queries,
    st.lists(
        st.builds(
            lambda kind, ts, end_ts, parts: kind(ts, end_ts, tuple(parts)),
            st.sampled_from([Partial, Final]),
            st.floats(0, 1e6),
            st.floats(0, 1e6),
            st.lists(
                st.builds(
                    Element,
                    st.text(max_size=5),
                    st.sampled_from(["text", "punct"]),
                    st.none() | st.floats(0, 1e6),
                    st.none() | st.floats(0, 1e6),
                    st.none() | st.floats(0, 1),
                )
            ),
        )
    ),
)

cut_messages = messages | st.builds(cut, messages, st.integers(0))


def any_query_is_read_and_written_again_or_refused_with_a_reason_that_fits(query: str) -> None:
    request = _read(StreamRequest.parse, query)
    if request is None:
        return
    assert StreamRequest.parse(request.query()) == request
    assert repr(request) == repr(replace(request, access_token=""))
    assert request.content_type.byte_rate is None or request.content_type.byte_rate > 0


def any_content_type_is_read_and_written_again_or_refused(text: str) -> None:
    kind = _read(ContentType.parse, text)
    assert kind is None or ContentType.parse(str(kind)) == kind


def any_message_is_read_as_what_can_be_written_again_or_is_a_value_error(text: str) -> None:
    try:
        message = parse_message(text)
    except ValueError:
        return
    if isinstance(message, Connected | Partial | Final):
        written = message.encode()
        json.loads(written, parse_constant=_refuse)
        assert parse_message(written) == message
        assert kind_of(text) == kind_of(written)
        assert isinstance(message, Connected) or isinstance(message.text, str)


def any_realtime_event_is_understood_or_told_as_an_error(text: str | bytes) -> None:
    try:
        event = read(text)
        settings = Settings().updated(event.session)
    except WrongEvent as wrong:
        told = json.dumps(wrong.encode())
        assert len(told) < 2000
        return
    json.dumps([settings.shown("sess_1"), settings.shown_beta("sess_1")])
    assert settings.content_type.rate in ContentType.RATES
    assert settings.updated({}) == settings
    StreamRequest(settings.content_type, {"language": settings.language}).query()


def any_listen_request_is_understood_or_refused_by_name(query: str) -> None:
    asked = _read(Listening.parse, query)
    if asked is not None:
        assert asked.bytes_per_second >= 0
        asked.request(1.5).query()


def any_listen_message_is_understood_or_wrong(text: str) -> None:
    try:
        deepgram.read(text)
    except deepgram.WrongMessage as wrong:
        told = json.dumps(deepgram.wrong(str(wrong)))
    else:
        return
    assert len(told) < 1000


def any_results_are_told_as_deepgrams(given: tuple[str, list[Partial | Final]]) -> None:
    """A final's transcript is its words, and their times are within it."""
    query, said = given
    try:
        told = deepgram.Results(Listening.parse(query), "id")
    except BadRequest:
        return
    for nth, message in enumerate(said):
        for event in told.messages_for(message, from_finalize=nth % 2 == 0) + told.utterance_end(message.end_ts):
            json.dumps(event, allow_nan=False)
            if event["type"] != "Results":
                continue
            [alternative] = event["channel"]["alternatives"]
            name = "punctuated_word" if told.asked.is_punctuated else "word"
            assert alternative["transcript"] == " ".join(word[name] for word in alternative["words"])
            for word in alternative["words"]:
                assert event["start"] <= word["start"] <= word["end"] <= event["start"] + event["duration"] + 0.01


def any_text_has_a_kind(text: str) -> None:
    assert isinstance(kind_of(text), str)


def any_ending_can_be_passed_on_to_a_client(close: Close) -> None:
    for_client = close.for_client()
    assert for_client == for_client.for_client()
    assert 1000 <= for_client.code < 5000
    assert for_client.code not in {1004, 1005, 1006, 1012, 1013, 1015}
    assert len(for_client.reason.encode()) <= REASON_BYTES
    assert not close.is_success(eos_sent=True) or close.code == 1000


@dataclass(frozen=True)
class Property:
    """What holds for any input; examples come first."""

    holds: Callable[[Any], None]
    inputs: st.SearchStrategy[Any]
    examples: tuple[Any, ...] = ()


PROPERTIES = [
    Property(
        any_query_is_read_and_written_again_or_refused_with_a_reason_that_fits,
        queries,
        (encode_query({"content_type": str(ContentType.raw()), "start_ts": HUGE}),),
    ),
    Property(any_content_type_is_read_and_written_again_or_refused, content_types | st.text(), ("audio/x-raw",)),
    Property(
        any_message_is_read_as_what_can_be_written_again_or_is_a_value_error,
        cut_messages,
        (
            DEEP,
            f'{{"type": "final", "elements": {DEEP}',
            f'{{"type": "final", "end_ts": {HUGE}, "elements": [{{"ts": {HUGE}, "confidence": -{HUGE}}}]}}',
            '{"type": "partial", "ts": NaN, "end_ts": -Infinity}',
        ),
    ),
    Property(
        any_realtime_event_is_understood_or_told_as_an_error,
        realtime_events,
        (DEEP, f'{{"type": "session.update", "session": {{"rate": {HUGE}}}}}', '{"type": ' * 5000),
    ),
    Property(any_listen_request_is_understood_or_refused_by_name, listen_queries),
    Property(any_listen_message_is_understood_or_wrong, cut_messages, (DEEP,)),
    Property(any_results_are_told_as_deepgrams, results),
    Property(any_text_has_a_kind, cut_messages, (DEEP,)),
    Property(
        any_ending_can_be_passed_on_to_a_client,
        st.builds(Close, st.integers() | st.integers(0, 5000), st.text()),
    ),
]
CODECS = [Property(any_stream_is_heard_or_refused, spoilt(forms)) for _, forms in sorted(ENTRIES.items())]
FILES = Property(any_file_is_heard_or_refused, spoilt_files)
GROWTH = 64  # MiB of resident memory that a run may take after its first round


def _read(parse: Callable[[str], T], text: str) -> T | None:
    """Return what is read, or None when it is refused, for a reason that a close frame can carry."""
    try:
        return parse(text)
    except BadRequest as error:
        reason = str(error)
    assert reason == fit_reason(reason)
    return None


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def resident() -> int:
    """Return this process's resident memory, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def fuzz(tried: Property, inputs: int) -> None:
    """Try one property with so many inputs. Raises what it finds, with the smallest input that shows it."""
    for example in tried.examples:
        tried.holds(example)
    settings(max_examples=inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
        given(tried.inputs)(tried.holds)
    )()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", choices=("protocol", "codecs", "files"))
    options = parser.parse_args()
    entries = {"protocol": PROPERTIES, "codecs": CODECS, "files": [FILES]}
    properties = entries.get(options.only, [tried for group in entries.values() for tried in group])
    begun, inputs, memory = time.monotonic(), 0, 0
    while time.monotonic() - begun < options.minutes * 60:
        for tried in properties:
            fuzz(tried, ROUND)
        inputs += ROUND
        memory = memory or resident()
    took, grown = (time.monotonic() - begun) / 60, (resident() - memory) // 2**20
    assert grown < GROWTH, f"resident memory has grown by {grown} MiB"
    text = f"{inputs:,} inputs to each of {len(properties)} properties in {took:.1f} minutes: nothing found"
    print(f"{text}; resident memory +{grown} MiB")  # noqa: T201 # a command's output


if __name__ == "__main__":
    main()
