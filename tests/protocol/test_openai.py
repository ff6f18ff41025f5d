"""A client's events and settings, in both dialects, and the errors for those that are not understood."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.openai import (
    APPEND,
    BETA_UPDATE,
    CLEAR,
    COMMIT,
    LARGE,
    LOGPROBS,
    UPDATE,
    Event,
    Settings,
    WrongEvent,
    ending,
    read,
)
from speechbridge.protocol.request import ContentType

AUDIO = base64.b64encode(bytes(range(200))).decode()


def test_each_event_is_read() -> None:
    append = json.dumps({"type": APPEND, "audio": AUDIO, "event_id": "mine"})
    assert read(append) == Event(APPEND, "mine", bytes(range(200)))
    assert read(append.encode()) == read(append)
    assert read(json.dumps({"type": COMMIT})) == Event(COMMIT)
    assert read(json.dumps({"type": COMMIT, "session": None})) == Event(COMMIT)
    assert read(json.dumps({"type": CLEAR})) == Event(CLEAR)
    assert read(json.dumps({"type": COMMIT, "session": None})) == Event(COMMIT)  # found by the fuzzer
    for kind in (UPDATE, BETA_UPDATE):
        assert read(json.dumps({"type": kind, "session": {"include": None}})).session == {"include": None}


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("no JSON", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        ("[" * 100_000, "event_too_large", None),
        ("[" * 5_000, "invalid_json", None),
        (json.dumps({"type": UPDATE, "session": {"x": [0] * LARGE}}), "event_too_large", None),
        ("[]", "invalid_event", None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": {}}', "invalid_value", "type"),
        ('{"type": "response.create"}', "invalid_value", "type"),
        (json.dumps({"type": APPEND}), "missing_required_parameter", "audio"),
        (json.dumps({"type": APPEND, "audio": 1}), "missing_required_parameter", "audio"),
        (json.dumps({"type": APPEND, "audio": "!"}), "invalid_value", "audio"),
        (json.dumps({"type": APPEND, "audio": "\ud800"}), "invalid_value", "audio"),
        (json.dumps({"type": APPEND, "audio": AUDIO[:-1]}), "invalid_value", "audio"),
        (json.dumps({"type": UPDATE}), "missing_required_parameter", "session"),
        (json.dumps({"type": BETA_UPDATE, "session": []}), "missing_required_parameter", "session"),
    ],
)
def test_what_is_not_understood_is_told(text: str | bytes, code: str, param: str | None) -> None:
    with pytest.raises(WrongEvent) as caught:
        read(text)
    told = caught.value.encode()
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert (told["error"]["code"], told["error"]["param"]) == (code, param)
    assert 0 < len(told["error"]["message"]) < 400
    json.dumps(told)


def test_an_error_names_the_event_that_it_is_about() -> None:
    with pytest.raises(WrongEvent) as caught:
        read('{"type": "other", "event_id": "event_7"}')
    assert caught.value.encode()["error"]["event_id"] == "event_7"


CURRENT: dict[str, Any] = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "gpt-4o-transcribe", "language": "de", "prompt": "words"},
            "turn_detection": None,
            "noise_reduction": {"type": "near_field"},
        }
    },
    "include": [LOGPROBS],
}
BETA: dict[str, Any] = {
    "input_audio_format": "pcm16",
    "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "de", "prompt": "words"},
    "turn_detection": None,
    "input_audio_noise_reduction": {"type": "near_field"},
    "include": [LOGPROBS],
    "modalities": ["text"],
    "client_secret": None,
}


def test_both_dialects_mean_the_same() -> None:
    settings = Settings().updated(CURRENT)
    assert settings == Settings().updated(BETA)
    assert settings.content_type == ContentType.raw(24000)
    assert (settings.language, settings.has_logprobs, settings.turn_detection) == ("de", True, None)
    assert settings.shown("sess_1")["audio"]["input"] == CURRENT["audio"]["input"]
    beta = settings.shown_beta("sess_1")
    assert {name: beta[name] for name in BETA if name != "modalities"} == {
        name: value for name, value in BETA.items() if name != "modalities"
    }


def test_what_an_update_does_not_name_stays() -> None:
    settings = Settings().updated(CURRENT).updated({"audio": {"input": {"turn_detection": {"type": "server_vad"}}}})
    assert settings.turn_detection == {"type": "server_vad"}
    assert (settings.language, settings.has_logprobs) == ("de", True)
    assert not settings.updated({"include": None}).has_logprobs


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "audio/pcm"}, ContentType.raw(24000)),
        ({"type": "audio/pcm", "rate": 16000}, ContentType.raw(16000)),
        ({"type": "audio/pcmu"}, ContentType.parse("audio/x-mulaw")),
        ({"type": "audio/pcma"}, ContentType.parse("audio/x-alaw")),
        (None, ContentType.raw(24000)),
    ],
)
def test_formats(form: object, expected: ContentType) -> None:
    assert Settings().updated({"audio": {"input": {"format": form}}}).content_type == expected


@pytest.mark.parametrize(
    ("name", "media"), [("pcm16", "audio/pcm"), ("g711_ulaw", "audio/pcmu"), ("g711_alaw", "audio/pcma")]
)
def test_formats_of_the_beta(name: str, media: str) -> None:
    settings = Settings().updated({"input_audio_format": name})
    assert settings.format == media
    assert settings.shown_beta("")["input_audio_format"] == name


@pytest.mark.parametrize(
    ("transcription", "language"),
    [({}, ""), (None, ""), ({"languages": ["fr"]}, "fr"), ({"languages": ["fr", "en"]}, ""), ({"language": None}, "")],
)
def test_the_language_is_what_one_client_names(transcription: object, language: str) -> None:
    assert Settings().updated({"input_audio_transcription": transcription}).language == language


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "realtime"}, "session.type"),
        ({"voice": "alloy"}, "session.voice"),
        ({"audio": 1}, "session.audio"),
        ({"audio": {"output": {}}}, "session.audio.output"),
        ({"audio": {"input": {"codec": 1}}}, "session.audio.input.codec"),
        ({"audio": {"input": {"format": "pcm16"}}}, "session.audio.input.format"),
        ({"audio": {"input": {"format": {"type": "audio/opus"}}}}, "session.audio.input.format.type"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": True}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 4000}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"format": {"bits": 8}}}}, "session.audio.input.format.bits"),
        ({"audio": {"input": {"turn_detection": {"type": []}}}}, "session.audio.input.turn_detection.type"),
        (
            {"audio": {"input": {"transcription": {"language": "x" * 999}}}},
            "session.audio.input.transcription.language",
        ),
        ({"audio": {"input": {"transcription": {"languages": [1]}}}}, "session.audio.input.transcription.languages"),
        ({"input_audio_format": ["pcm16"]}, "session.input_audio_format"),
        ({"include": ["everything"]}, "session.include"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(session: dict[str, Any], param: str) -> None:
    with pytest.raises(WrongEvent) as caught:
        Settings().updated(session)
    assert caught.value.param == param
    assert param in str(caught.value)


@pytest.mark.parametrize("code", [code for code in CloseCode if code != CloseCode.NORMAL])
def test_every_ending_is_an_error_to_clients(code: CloseCode) -> None:
    told = ending(Close(code, "why"))["error"]
    assert told["type"]
    assert told["code"]
    assert told["message"] == "why"
    assert ending(Close(code))["error"]["message"]
