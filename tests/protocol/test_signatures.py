"""Containers and compressed audio where raw samples were announced are told by their first bytes; samples never are."""

from __future__ import annotations

import gzip
import struct
from io import BytesIO

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.close import REASON_BYTES
from speechbridge.protocol.request import BadRequest, ContentType
from speechbridge.protocol.signatures import ENOUGH, SIGNATURES, FirstBytes, kind_of
from tests.helpers.clip import pcm
from tests.helpers.sounds import sounds
from tests.helpers.wav import chunk, fmt, riff

DICE = np.random.default_rng(1)
NOISE = DICE.integers(-8000, 8000, 32000, dtype=np.int16)


def encoded(format: str, subtype: str | None = None, endian: str = "FILE", rate: int = 16000) -> bytes:  # noqa: A002
    file = BytesIO()
    soundfile.write(file, NOISE, rate, format=format, subtype=subtype, endian=endian)
    return file.getvalue()


def adts(frames: int) -> bytes:
    """Return frames of AAC with an ADTS header each, as ffmpeg writes them for 16 kHz mono."""
    return b"".join(
        bytes([0xFF, 0xF1, 0x60, 0x40 | (size >> 11), size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC]) + bytes(size - 7)
        for size in [200 + 7 * n for n in range(frames)]
    )


# Beginnings, as ffmpeg, sox, gzip and browsers write them. What libsndfile writes is made by it.
BEGUN = {
    "Ogg, Vorbis": encoded("OGG", "VORBIS"),
    "Ogg, Opus": encoded("OGG", "OPUS"),
    "Ogg, cut into": encoded("OGG", "VORBIS")[1000:],
    "FLAC": encoded("FLAC"),
    "MP3 without a tag": encoded("MP3"),
    "MP3, 44.1 kHz, cut into": encoded("MP3", rate=44100)[333:],
    "MP3 with a tag": b"ID3\x04\x00\x00\x00\x00\x02\x01TSSE" + bytes(300),
    "MPEG-1, layer II": b"".join([b"\xff\xfd\x84\x00" + bytes(380)] * 4),
    "AAC": adts(5),
    "AAC, cut into": adts(8)[100:],
    "MPEG transport stream": (b"G@\x11\x10\x00" + bytes(183)) * 6,
    "WebM": bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d"),
    "MP4": bytes.fromhex("0000001c667479704d344120000002004d34412069736f6d69736f32"),
    "MP4 in fragments": bytes.fromhex("00000018737479706d736468000000006d73646864617368"),
    "QuickTime": bytes.fromhex("00000014667479707174202000000200717420200000000877696465"),
    "AIFF": encoded("AIFF"),
    "AU": encoded("AU"),
    "CAF": encoded("CAF"),
    "W64": encoded("W64"),
    "RF64": encoded("RF64"),
    "VOC": encoded("VOC"),
    "RIFF in big-endian": encoded("WAV", endian="BIG"),
    "AVI": b"RIFF\x16\xf8\x00\x00AVI LIST",
    "WMA": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "WavPack": bytes.fromhex("7776706bbc2601001004"),
    "AMR": b"#!AMR-WB\n\x04",
    "gzip of a WAV": gzip.compress(encoded("WAV")),
    "xz": bytes.fromhex("fd377a585a000004e6d6b446"),
    "zip": b"PK\x03\x04\x14\x00\x00\x00",
    "WAV, float": encoded("WAV", "FLOAT"),
    "WAV, mu-law": encoded("WAV", "ULAW"),
    "WAV, 24 bits": encoded("WAV", "PCM_24"),
    "WAVEX, 24 bits": encoded("WAVEX", "PCM_24"),
    "WAV, 44.1 kHz": encoded("WAV", rate=44100),
    "WAV, stereo, after another chunk": riff(chunk(b"bext", bytes(602)), fmt(channels=2), chunk(b"data", bytes(400))),
}


def look(content: bytes, size: int, content_type: ContentType | None = None) -> None:
    first = FirstBytes(content_type or ContentType.raw())
    for start in range(0, min(len(content), 2 * ENOUGH), size):
        first.feed(content[start : start + size])
    first.finish()


@pytest.mark.parametrize("size", [1, 640, 3200, 100_000])
@pytest.mark.parametrize("kind", BEGUN)
def test_what_is_no_raw_audio_is_refused_with_the_cure(kind: str, size: int) -> None:
    with pytest.raises(
        BadRequest,
        match=r"not raw samples: (decode it \(ffmpeg|send content_type=audio/)|WAV with .*: send audio/x-wav",
    ) as refused:
        look(BEGUN[kind], size)
    assert len(str(refused.value).encode()) <= REASON_BYTES


@pytest.mark.parametrize("kind", ["Ogg, Opus", "WebM", "MP4", "FLAC", "MP3 with a tag", "WAV, float", "gzip of a WAV"])
def test_a_signature_is_known_in_the_first_message_however_short(kind: str) -> None:
    with pytest.raises(BadRequest):
        FirstBytes(ContentType.raw()).feed(BEGUN[kind][:64])


def test_the_longest_reason_fits_into_a_close_frame() -> None:
    raw, rate = ContentType.raw(48000, 10), 2**32 - 1
    for body in (
        struct.pack("<HHIIHH", 0xFFFF, 1, rate, 0, 0, 65535),
        struct.pack("<HHIIHH", 1, 65535, rate, 0, 0, 16),
    ):
        with pytest.raises(BadRequest) as refused:
            look(riff(chunk(b"fmt ", body)), 100, raw)
        assert len(str(refused.value)) <= REASON_BYTES
    with pytest.raises(BadRequest) as refused:
        look(BEGUN["MPEG transport stream"], 3200, raw)
    assert max(map(len, SIGNATURES)) <= len("an MPEG transport stream")
    assert len(str(refused.value)) <= REASON_BYTES


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_a_wav_of_the_format_that_was_announced_is_heard(kind: str) -> None:
    """Its header is a click of a millisecond."""
    look(encoded(kind), 3200)


@pytest.mark.parametrize(
    "content_type", [ContentType("audio/x-wav"), ContentType("audio/x-raw", "interleaved", 16000, "OPUS", 1)]
)
def test_where_no_samples_were_announced_nothing_is_looked_at(content_type: ContentType) -> None:
    for content in BEGUN.values():
        look(content, 3200, content_type)


def test_speech_and_other_sounds_are_raw_samples_wherever_they_begin() -> None:
    for sound in [pcm(), *sounds(2.0).values()]:
        for start in range(0, len(sound) - ENOUGH, 3001):  # also in the middle of a sample
            assert kind_of(sound[start : start + ENOUGH]) == ""


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 5, 30, 300, 3000, 30000]))
def test_noise_of_any_loudness_is_raw_samples(seed: int, loudness: int) -> None:
    dice = np.random.default_rng(seed)
    assert kind_of(dice.normal(0, loudness, ENOUGH // 2).clip(-32768, 32767).astype("<i2").tobytes()) == ""


@given(st.binary(max_size=64))
def test_any_constant_and_any_repeated_piece_is_looked_at_without_an_error(piece: bytes) -> None:
    kind_of(piece * (ENOUGH // max(1, len(piece))))
    kind_of(piece)


@pytest.mark.parametrize("byte", [0x00, 0x47, 0xFF, 0x7F, 0x80])
def test_a_constant_is_raw_samples(byte: int) -> None:
    assert kind_of(bytes([byte]) * ENOUGH) == ""
