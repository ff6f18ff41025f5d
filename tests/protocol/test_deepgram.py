"""Requests, messages and results of Deepgram's live API."""

from __future__ import annotations

import json

import pytest

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.deepgram import Listening, Results, WrongMessage, read, refusal
from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.protocol.request import BadRequest, ContentType

FINAL = Final(
    1.0,
    2.0,
    (
        Element("Well", "text", 1.0, 1.2, 0.9),
        Element(", ", "punct"),
        Element("Mr.", "text", 1.3, 1.4, 0.7),
        Element(" ", "punct"),
        Element("then", "text", 1.5, 2.0, 0.8),
        Element(".", "punct"),
    ),
)


@pytest.mark.parametrize(
    ("query", "content_type", "rate"),
    [
        ("encoding=linear16&sample_rate=24000", ContentType.undeclared(ContentType.raw(24000)), 48000),
        ("encoding=linear16&sample_rate=8000&channels=2", ContentType.undeclared(ContentType.raw(8000, 2)), 32000),
        ("encoding=linear32&sample_rate=16000", ContentType("audio/x-raw", "interleaved", 16000, "F32LE", 1), 64000),
        ("encoding=mulaw&sample_rate=8000", ContentType.parse("audio/x-mulaw"), 8000),
        ("encoding=alaw", ContentType.parse("audio/x-alaw"), 8000),
        ("encoding=ogg-opus", ContentType("audio/ogg"), 0),
        ("encoding=flac&sample_rate=16000", ContentType("audio/x-flac"), 0),
        ("model=nova-3", ContentType.undeclared(), 0),
        ("", ContentType.undeclared(), 0),
    ],
)
def test_encodings(query: str, content_type: ContentType, rate: int) -> None:
    asked = Listening.parse(query)
    assert asked.content_type == content_type
    assert asked.bytes_per_second == rate


def test_what_is_asked_for() -> None:
    asked = Listening.parse(
        "model=nova-3&language=en&interim_results=True&punctuate=true&endpointing=300&vad_events=true"
        "&utterance_end_ms=1500&keyterm=a&keyterm=b&tag=t&unknown=1&diarize=false&profanity_filter=true"
    )
    assert (asked.interim_results, asked.is_punctuated, asked.endpointing, asked.vad_events) == (True,) * 4
    assert (asked.utterance_end, asked.model) == (1.5, "nova-3")
    assert asked.request(2.5).options == {
        "language": "en", "detailed_partials": True, "filter_profanity": True, "start_ts": 2.5,
    }  # fmt: skip
    assert not Listening.parse("endpointing=false").endpointing
    assert Listening.parse("smart_format=true").is_punctuated


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("encoding=amr-nb&sample_rate=8000", "encoding"),
        ("encoding=linear16", "sample_rate"),
        ("encoding=linear16&sample_rate=4000", "sample_rate"),
        ("encoding=linear16&sample_rate=x", "sample_rate"),
        ("encoding=linear16&sample_rate=16000&channels=11", "channels"),
        ("diarize=true", "diarize"),
        ("multichannel=true&channels=2", "multichannel"),
        ("redact=pci", "redact"),
        ("replace=a:b", "replace"),
        ("search=a", "search"),
        ("callback=http://x", "callback"),
        ("alternatives=2", "alternatives"),
        ("punctuate=yes", "punctuate"),
        ("utterance_end_ms=500", "utterance_end_ms"),
        ("utterance_end_ms=\u00b2", "utterance_end_ms"),
        ("&".join(f"a{nth}=1" for nth in range(300)), "200 parameters"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(query: str, named: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Listening.parse(query)
    assert named in str(caught.value)
    status, headers, body = refusal(Close(CloseCode.BAD_REQUEST, str(caught.value)), "id")
    assert status == 400
    assert headers["dg-error"].isascii()
    assert body == {"err_code": "Bad Request", "err_msg": str(caught.value), "request_id": "id"}


@pytest.mark.parametrize("kind", ["KeepAlive", "Finalize", "CloseStream", "Configure"])
def test_messages(kind: str) -> None:
    assert read(json.dumps({"type": kind})) == kind


@pytest.mark.parametrize(
    "text", ["", "EOS", "[]", "{}", '{"type": []}', '{"type": "Other"}', "[" * 10_000, " " * 99_999]
)
def test_other_messages_are_wrong(text: str) -> None:
    with pytest.raises(WrongMessage):
        read(text)


def results(query: str = "") -> Results:
    return Results(Listening.parse(query), "id")


@pytest.mark.parametrize(
    ("query", "name", "transcript"),
    [("", "word", "well mr then"), ("punctuate=true", "punctuated_word", "Well, Mr. then.")],
)
def test_a_finals_transcript_is_its_words(query: str, name: str, transcript: str) -> None:
    [told] = results(query).messages_for(FINAL)
    [alternative] = told["channel"]["alternatives"]
    assert alternative["transcript"] == " ".join(word[name] for word in alternative["words"]) == transcript
    assert [word["word"] for word in alternative["words"]] == ["well", "mr", "then"]
    assert [(word["start"], word["end"]) for word in alternative["words"]] == [(1.0, 1.2), (1.3, 1.4), (1.5, 2.0)]
    assert alternative["confidence"] == 0.8
    assert (told["start"], told["duration"]) == (1.0, 1.0)
    assert (told["is_final"], told["speech_final"], told["from_finalize"]) == (True, True, False)


def test_without_endpointing_no_final_ends_speech() -> None:
    assert results("endpointing=false").messages_for(FINAL)[0]["speech_final"] is False


def test_interim_results_come_where_they_are_asked_for() -> None:
    partial = Partial(0.5, 1.0, (Element("well"),))
    assert results().messages_for(partial) == []
    [told] = results("interim_results=true").messages_for(partial)
    assert told["is_final"] is False
    assert told["channel"]["alternatives"][0]["words"] == [
        {"word": "well", "start": 0.5, "end": 1.0, "confidence": 1.0}
    ]


def test_speech_started_comes_once_an_utterance() -> None:
    told = results("vad_events=true")
    partial = Partial(0.5, 1.0, (Element("well"),))
    assert [event["type"] for event in told.messages_for(partial)] == ["SpeechStarted"]
    assert told.messages_for(partial) == []
    assert [event["type"] for event in told.messages_for(FINAL)] == ["Results"]
    assert [event["type"] for event in told.messages_for(FINAL)] == ["SpeechStarted", "Results"]


def test_utterance_end_comes_once_after_a_gap_in_which_nobody_speaks() -> None:
    told = results("utterance_end_ms=1000&interim_results=true")
    assert told.utterance_end(9.0) == []
    told.messages_for(FINAL)
    assert told.utterance_end(2.9) == []
    told.messages_for(Partial(2.5, 2.8, (Element("and"),)))
    assert told.utterance_end(9.0) == []
    told.messages_for(FINAL)
    assert told.utterance_end(3.0) == [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 2.0}]
    assert told.utterance_end(9.0) == []


def test_finalize_is_answered_by_a_final_or_by_nothing() -> None:
    told = results()
    [event] = told.messages_for(FINAL, from_finalize=True)
    assert (event["from_finalize"], event["is_final"]) == (True, True)
    assert told.messages_for(Final(2.0, 3.0)) == []
    [empty] = told.messages_for(Final(2.0, 3.0), from_finalize=True)
    for event in (empty, told.empty(3.0)):
        assert event["from_finalize"] is True
        assert event["channel"]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]
    assert told.empty(3.0)["start"] == 3.0


@pytest.mark.parametrize(("code", "status"), [(4001, 401), (4002, 400), (4029, 429), (4036, 403), (4010, 503)])
def test_a_refusal_has_a_status(code: int, status: int) -> None:
    assert refusal(Close(code, "why\nnot \u00e9"), "id")[:2] == (
        status,
        {"dg-error": "why?not ?", "dg-request-id": "id"},
    )
