"""Deepgram's protocol: what a query asks for, what a client says, and what it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.close import Close
from speechbridge.protocol.deepgram import UNSUPPORTED, Command, Listen, Talk, Writer, command, refusal
from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.protocol.request import BadRequest, ContentType

RAW = "encoding=linear16&sample_rate=16000"


def said(*words: str, begin: float = 0.0, is_final: bool = True) -> Final | Partial:
    """Say words of half a second each, from `begin` on, with a full stop."""
    elements = [
        Element(word, ts=begin + nth / 2, end_ts=begin + nth / 2 + 0.4, confidence=0.9)
        for nth, word in enumerate(words)
    ]
    kind = Final if is_final else Partial
    return kind(begin, begin + len(words) / 2, (*elements, Element(".", "punct")))


def talk(query: str = "") -> Talk:
    return Talk(Writer("id", Listen.parse(query)))


def read(messages: list[str]) -> list[dict[str, Any]]:
    return [json.loads(message) for message in messages]


def kinds(messages: list[str]) -> list[str]:
    return [message["type"] for message in read(messages)]


@pytest.mark.parametrize(
    ("query", "content_type"),
    [
        ("", ContentType.undeclared()),
        (RAW, ContentType.raw()),
        ("encoding=linear16&sample_rate=48000&channels=2", ContentType.raw(48000, 2)),
        ("encoding=mulaw&sample_rate=8000", ContentType(ContentType.RAW, "interleaved", 8000, "MULAW", 1)),
        ("encoding=linear32&sample_rate=8000", ContentType(ContentType.RAW, "interleaved", 8000, "F32LE", 1)),
        ("encoding=opus&sample_rate=48000", ContentType("audio/ogg")),
        ("encoding=flac", ContentType("audio/x-flac")),
    ],
)
def test_the_audio_is_what_encoding_says_or_its_first_bytes(query: str, content_type: ContentType) -> None:
    assert Listen.parse(query).content_type == content_type


def test_options_are_translated() -> None:
    query = "punctuate=true&language=de&profanity_filter=true&keyterm=Rev.ai&keyterm=a,b&keywords=x:2&filler_words=true"
    assert dict(Listen.parse(query).request(2.5).options) == {
        "language": "de",
        "filter_profanity": True,
        "custom_vocabulary_id": "Rev.ai,a b,x",
        "start_ts": 2.5,
    }
    assert dict(Listen.parse("diarize=true").request(0.0).options) == {
        "skip_postprocessing": True,
        "remove_disfluencies": True,
        "enable_speaker_switch": True,
        "start_ts": 0.0,
    }


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("encoding=linear16", "sample_rate"),
        ("encoding=linear16&sample_rate=fast", "sample_rate='fast'"),
        ("encoding=amr-nb&sample_rate=8000", "encoding='amr-nb'"),
        ("channels=0", "channels='0'"),
        ("punctuate=yes", "punctuate='yes'"),
        ("utterance_end_ms=1000", "interim_results"),
        ("utterance_end_ms=10&interim_results=true", "utterance_end_ms='10'"),
        ("language=multi", "language=multi"),
        ("&".join(f"a{n}=1" for n in range(201)), "200 parameters"),
        *((f"{name}=true", name) for name in UNSUPPORTED),
    ],
)
def test_what_is_not_supported_is_refused_by_name(query: str, named: str) -> None:
    with pytest.raises(BadRequest) as error:
        Listen.parse(query)
    assert named in str(error.value)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_is_not_wanted_is_granted(name: str) -> None:
    Listen.parse(f"{name}=false")


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ('{"type": "KeepAlive"}', Command.KEEP_ALIVE),
        ('{"type": "Finalize", "channel": 0}', Command.FINALIZE),
        ('{"type": "CloseStream"}', Command.CLOSE_STREAM),
        ('{"type": "Configure"}', None),
        ("CloseStream", None),
        ('{"type": "KeepAlive", "more": "' + "x" * 2000 + '"}', None),
    ],
)
def test_a_text_is_a_command_or_not_understood(text: str, understood: Command | None) -> None:
    assert command(text) is understood


def test_a_final_has_its_words_with_their_punctuation() -> None:
    [result] = read(talk("punctuate=true").final(said("Mr", "Smith", begin=1.0)))
    [alternative] = result["channel"]["alternatives"]
    assert (result["start"], result["duration"], result["is_final"], result["speech_final"]) == (1.0, 1.0, True, True)
    assert alternative["transcript"] == "Mr Smith."
    assert [word["word"] for word in alternative["words"]] == ["mr", "smith"]
    assert [word["punctuated_word"] for word in alternative["words"]] == ["Mr", "Smith."]
    assert all(word["end"] > word["start"] and word["confidence"] == 0.9 for word in alternative["words"])


def test_without_punctuation_the_transcript_is_its_words() -> None:
    [result] = read(talk("endpointing=false").final(said("Mr", "Smith")))
    assert result["channel"]["alternatives"][0]["transcript"] == "mr smith"
    assert not result["speech_final"]


def test_interim_results_and_the_beginning_of_speech_are_told_if_they_are_wanted() -> None:
    quiet, wanted = talk(), talk("interim_results=true&vad_events=true")
    heard = said("Hello", begin=3.0, is_final=False)
    assert isinstance(heard, Partial)
    assert quiet.partial(heard) == []
    assert kinds(wanted.partial(heard)) == ["SpeechStarted", "Results"]
    assert kinds(wanted.partial(heard)) == ["Results"]


def test_the_end_of_an_utterance_is_told_once_when_it_has_been_quiet_for_long_enough() -> None:
    one = talk("interim_results=true&utterance_end_ms=1000")
    final = said("Hello")
    assert isinstance(final, Final)
    one.final(final)
    assert one.sounded(1.3) == []
    assert read(one.sounded(1.5)) == [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 0.4}]
    assert one.sounded(5.0) == []


def test_speech_that_goes_on_has_not_ended() -> None:
    one = talk("interim_results=true&utterance_end_ms=1000")
    final, partial = said("Hello"), said("there", begin=0.6, is_final=False)
    assert isinstance(final, Final)
    assert isinstance(partial, Partial)
    one.final(final)
    one.partial(partial)
    assert one.sounded(5.0) == []


@given(st.lists(st.integers(0, 3), max_size=5))
def test_the_last_result_of_a_flush_and_no_other_says_so(sizes: list[int]) -> None:
    one = talk("punctuate=true")
    one.flushing()
    told: list[str] = []
    for nth, size in enumerate(sizes):
        final = said(*["word"] * size, begin=2.0 * nth)
        assert isinstance(final, Final)
        told += one.final(final)
    told += one.flushed(20.0)
    results = [message for message in read(told) if message["type"] == "Results"]
    assert [message["from_finalize"] for message in results] == [False] * (len(results) - 1) + [True]
    words = [word for message in results for word in message["channel"]["alternatives"][0]["words"]]
    assert len(words) == sum(sizes)


@pytest.mark.parametrize(("code", "status"), [(4001, 401), (4002, 400), (4031, 429), (4010, 503), (4036, 403)])
def test_a_refusal_has_a_status_and_a_header_of_one_line(code: int, status: int) -> None:
    found, headers, body = refusal(Close(code, "so\nit is ä"), "id")
    assert (found, headers["dg-error"], headers["dg-request-id"]) == (status, "so\\nit is \\u00e4", "id")
    assert json.loads(body)["err_msg"] == "so\nit is ä"
