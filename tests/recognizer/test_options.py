"""What of a request this recognizer honours, and what it refuses with the cure."""

from __future__ import annotations

import pytest

from speechbridge.protocol.request import BadRequest, ContentType, StreamRequest
from speechbridge.recognizer.options import StreamOptions, audio_format
from speechbridge.recognizer.wav import Format

RAW = ContentType.raw()


def read(query: str, language: str = "en") -> StreamOptions:
    return StreamOptions.read(StreamRequest.parse(f"content_type={RAW}&{query}"), language)


def test_without_options_everything_is_as_rev_ai_has_it_by_default() -> None:
    assert read("") == StreamOptions(
        start_ts=0.0,
        detailed_partials=False,
        max_segment=15.0,
        filter_profanity=False,
        remove_disfluencies=False,
        skip_postprocessing=False,
    )


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("start_ts=12.5", "start_ts", 12.5),
        ("detailed_partials=true", "detailed_partials", True),
        ("max_segment_duration_seconds=5", "max_segment", 5.0),
        ("filter_profanity=True", "filter_profanity", True),
        ("remove_disfluencies=true", "remove_disfluencies", True),
        ("skip_postprocessing=true", "skip_postprocessing", True),
    ],
)
def test_what_it_can_do_is_read(query: str, name: str, value: object) -> None:
    assert getattr(read(query), name) == value


@pytest.mark.parametrize(
    "query", ["custom_vocabulary_id=x", "priority=accuracy", "transcriber=machine_v2", "metadata=x"]
)
def test_what_it_cannot_do_is_ignored(query: str) -> None:
    assert read(query) == read("")


@pytest.mark.parametrize(
    ("asked", "language"), [("en", "en"), ("EN", "en"), ("en-gb", "en"), ("en", "en-us"), ("de", "de"), ("cmn", "cmn")]
)
def test_the_language_of_the_model_is_taken(asked: str, language: str) -> None:
    assert read(f"language={asked}", language) == read("", language)


@pytest.mark.parametrize(("asked", "language"), [("fr", "en"), ("en", "de"), ("english", "en"), ("e", "en")])
def test_another_is_refused_and_the_right_one_is_named(asked: str, language: str) -> None:
    with pytest.raises(BadRequest, match=f"send language={language}, or none"):
        read(f"language={asked}", language)


def test_raw_audio_says_what_it_is_made_of_and_wav_will() -> None:
    assert audio_format(ContentType.raw(8000, 2)) == Format(8000, 2)
    assert audio_format(ContentType("audio/x-wav")) is None
    with pytest.raises(BadRequest, match="send audio/x-raw"):
        audio_format(ContentType("audio/x-flac"))
