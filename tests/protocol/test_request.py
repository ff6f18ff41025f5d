"""What a client asks for in its URL: read, written, refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.close import fit_reason
from speechbridge.protocol.request import BadRequest, ContentType, StreamRequest
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import Callable

RAW = "audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1"


def test_a_query_is_read_percent_encoded_or_not() -> None:
    """Python encodes it; Node and Java send `;` and `/` as they are."""
    encoded = StreamRequest.parse("access_token=t&content_type=" + RAW.replace(";", "%3B").replace("/", "%2F"))
    plain = StreamRequest.parse("content_type=" + RAW + "&access_token=t")
    assert encoded == plain == StreamRequest(ContentType.raw(), {}, "t")
    assert str(plain.content_type) == RAW


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("audio/wav", "audio/x-wav"),
        ("audio/wave", "audio/x-wav"),
        ("audio/vnd.wave", "audio/x-wav"),
        ("AUDIO/X-WAV", "audio/x-wav"),
        ("Audio/Wav", "audio/x-wav"),
        ('"audio/wav"', "audio/x-wav"),
        ("'audio/wav'", "audio/x-wav"),
        (" audio/wav ; codecs=1", "audio/x-wav"),
        ("audio/wav;rate=16000;", "audio/x-wav"),
        ('audio/vnd.wave; codec="1"', "audio/x-wav"),
        ("audio/flac", "audio/x-flac"),
        ("Audio/X-Flac;", "audio/x-flac"),
        ("AUDIO/X-RAW;LAYOUT=INTERLEAVED;RATE=16000;FORMAT=S16LE;CHANNELS=1", RAW),
        ("audio/x-raw; layout=interleaved; rate=16000; format=S16LE; channels=1", RAW),
        ("audio/x-raw ; layout = interleaved ; rate = 16000 ; format = S16LE ; channels = 1 ;", RAW),
        ('audio/x-raw;layout="interleaved";rate="16000";format="S16LE";channels="1"', RAW),
        ("audio/x-raw;layout='interleaved';rate='16000';format='S16LE';channels='1'", RAW),
        (f'"{RAW}"', RAW),
        (RAW.replace("S16LE", "s16le"), RAW),
        (RAW.replace("x-raw", "raw"), RAW),
        (RAW.replace("x-raw", "pcm"), RAW),
        ("audio/x-raw, layout=(string)interleaved, rate=(int)16000, format=(string)S16LE, channels=(int)1", RAW),
        ('audio/x-raw, format=(string)"S16LE", layout=interleaved, channels=(int) 1, rate=(int)16000', RAW),
        ("audio%2Fx-raw%3Blayout%3Dinterleaved%3Brate%3D16000%3Bformat%3DS16LE%3Bchannels%3D1", RAW),
        ("audio%2fwav", "audio/x-wav"),
    ],
)
def test_the_usual_spellings_are_understood(spelled: str, meant: str) -> None:
    assert str(ContentType.parse(spelled)) == meant
    assert str(StreamRequest.parse("content_type=" + quote(spelled)).content_type) == meant
    assert ContentType.parse(meant) == ContentType.parse(spelled)


@pytest.mark.parametrize(
    "spelled",
    [
        "",
        "audio",
        "audio/",
        "wav",
        "audio/midi",
        "audio/amr;codecs=opus",
        "audio/x-ms-wma",
        "audio/g722;rate=16000",
        '"',
        "'",
        "/wav",
    ],
)
def test_what_is_no_spelling_of_ours_is_still_refused(spelled: str) -> None:
    with pytest.raises(BadRequest, match="send audio/webm, audio/ogg, audio/mp4, audio/x-wav or audio/x-raw"):
        ContentType.parse(spelled)


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
        ("content_type=audio/midi", "send audio/webm, audio/ogg, audio/mp4, audio/x-wav or audio/x-raw"),
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
        (f"content_type={RAW}&metadata={'/' * 2500}", "take 7509 bytes of a URL: 6144 at most"),
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


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        (ContentType.raw(), 2),
        (ContentType.raw(48000, 2), 4),
        (ContentType("audio/x-raw", "non-interleaved", 16000, "S16LE", 1), 2),
        (ContentType("audio/x-raw", "non-interleaved", 16000, "S16LE", 2), None),
        (ContentType("audio/x-raw", "interleaved", 16000, "F32LE", 1), None),
        (ContentType("audio/x-wav"), None),
    ],
)
def test_only_interleaved_16_bit_samples_can_be_cut_anywhere(kind: ContentType, frame: int | None) -> None:
    assert kind.frame == frame


@pytest.mark.parametrize(
    ("text", "media"),
    [
        ("audio/webm;codecs=opus", "audio/webm"),
        ('AUDIO/WebM; codecs="opus"', "audio/webm"),
        ("video/webm;codecs=vp8,opus", "audio/webm"),
        ("audio/ogg; codecs=vorbis", "audio/ogg"),
        ("audio/mp4;codecs=mp4a.40.2", "audio/mp4"),
        ("audio/mp3", "audio/mpeg"),
        ("audio/flac", "audio/x-flac"),
        ("audio/wav", "audio/x-wav"),
        ("application/octet-stream", ContentType.UNDECLARED),
    ],
)
@pytest.mark.parametrize("encode", [str, quote, lambda text: quote(text, safe="/;=")])
def test_what_clients_record_is_known_in_any_spelling(text: str, media: str, encode: Callable[[str], str]) -> None:
    query = f"content_type={encode(text)}&language=en"
    assert StreamRequest.parse(query).content_type == ContentType(media)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("audio/x-mulaw;rate=8000", "audio/x-mulaw;rate=8000;channels=1"),
        ("audio/PCMU", "audio/x-mulaw;rate=8000;channels=1"),
        ("audio/x-alaw;rate=16000;channels=2", "audio/x-alaw;rate=16000;channels=2"),
        ("audio/l16;rate=44100;channels=2", "audio/l16;rate=44100;channels=2"),
    ],
)
def test_telephone_audio_has_a_rate(text: str, shown: str) -> None:
    content_type = ContentType.parse(text)
    assert str(content_type) == shown
    assert ContentType.parse(shown) == content_type
    assert content_type.frame is content_type.byte_rate is None  # the SDK gets something else


def test_a_query_without_a_type_may_have_one_by_default() -> None:
    assert StreamRequest.parse("language=en", ContentType.undeclared()).content_type == ContentType.undeclared()
    assert StreamRequest.parse(f"content_type={RAW}", ContentType.undeclared()).content_type == ContentType.raw()
