"""Real speech, encoded by FFmpeg in each form that clients send, and decoded as it arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbridge.codecs import Decoder, kind_of
from speechbridge.codecs.samples import FORMATS
from speechbridge.protocol.media import RAW_FORMATS
from speechbridge.protocol.request import ContentType
from tests.helpers import clip
from tests.helpers.decoded import chunks, decoded, likeness
from tests.helpers.encoded import FEW, FORMS, OGG, WEBM, Form, encoded, reading

SECONDS = 2.0


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_what_was_said_comes_out(form: Form) -> None:
    said, data = clip.pcm(seconds=SECONDS), reading(form, SECONDS)
    heard = decoded(chunks(data, 1000), ContentType.parse(form.media))
    if form.exact:
        assert heard == said
    else:
        assert likeness(said, heard) > 0.95
        assert abs(len(heard) - len(said)) / 32000 < 0.15  # encoders pad


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_one_byte_at_a_time_or_all_at_once_are_heard_alike(form: Form) -> None:
    data, kind = reading(form, 0.25), ContentType.parse(form.media)
    assert decoded(chunks(data, 1), kind) == decoded([data], kind)


@pytest.mark.slow
@pytest.mark.parametrize("form", FEW, ids=str)
def test_any_cut_is_heard_alike(form: Form) -> None:
    data, kind = reading(form, 0.25), ContentType.parse(form.media)
    whole = decoded([data], kind)

    @settings(max_examples=40)
    @given(st.lists(st.integers(0, len(data)), max_size=30).map(sorted))
    def check(cuts: list[int]) -> None:
        assert decoded([data[a:b] for a, b in pairwise([0, *cuts, len(data)])], kind) == whole

    check()


@pytest.mark.parametrize("form", [form for form in FORMS if ";" not in form.media], ids=str)
def test_the_first_bytes_tell_what_a_container_is(form: Form) -> None:
    data = reading(form, 0.5)
    assert kind_of(data[:8192], is_all=True) == form.media
    assert decoded([data]) == decoded([data], ContentType.parse(form.media))


def test_a_client_is_told_all_formats_of_samples_that_are_decoded() -> None:
    names = RAW_FORMATS.replace(" (LE or BE), MULAW or ALAW", "").split()
    told = {name + end for name in names for end in ([""] if name in {"S8", "U8", "S24_32LE"} else ["LE", "BE"])}
    assert told | {"MULAW", "ALAW"} == FORMATS.keys()


@pytest.mark.parametrize("form", [form for form in FORMS if ";" in form.media], ids=str)
def test_samples_are_told_from_containers(form: Form) -> None:
    assert kind_of(reading(form, 0.5), is_all=True) == ""


@pytest.mark.parametrize(
    ("form", "most"), [(WEBM, 0.04), (OGG, 0.12), (FORMS[12], 0.3), (FORMS[11], 0.3), (FORMS[20], 0.08)]
)
def test_sound_comes_out_at_once(form: Form, most: float) -> None:
    """Fed at the pace of speech, a decoder is never further behind than its encoder's packets and pages are long."""
    data = reading(form, SECONDS)
    decoder, heard, behind = Decoder(ContentType.undeclared()), 0, []
    whole = len(decoded([data])) / 32000
    for start in range(0, len(data), 50):
        heard += sum(map(len, decoder.feed(data[start : start + 50])))
        behind.append((start + 50) / len(data) * whole - heard / 32000)
    assert sorted(behind[len(behind) // 10 :])[len(behind) // 2] < most


def test_a_container_is_recognised_whatever_the_client_calls_it() -> None:
    """Pages say audio/webm, and Safari records MP4."""
    assert decoded([reading(FORMS[11])], ContentType.parse("audio/webm")) == decoded([reading(FORMS[11])])


@pytest.mark.parametrize("form", [OGG, WEBM, *FORMS[18:21], FORMS[23], FORMS[25], FORMS[11]], ids=str)
def test_one_file_after_the_other_is_heard(form: Form) -> None:
    one, other = encoded(clip.pcm()[:64000], form), encoded(clip.pcm()[64000:128000], form)
    heard = decoded(chunks(one + other, 777))
    assert likeness(clip.pcm()[:64000], heard[: len(heard) // 4 * 2]) > 0.9
    assert likeness(clip.pcm()[64000:128000], heard[len(heard) // 4 * 2 :]) > 0.9


def test_a_wav_that_says_nothing_or_too_little_of_its_size_is_heard_whole() -> None:
    said, form = clip.pcm(seconds=0.1), FORMS[25]
    data = bytearray(encoded(said, form))
    at = data.index(b"data") + 4
    for size in (0, 0xFFFFFFFF, 100, len(said), 2 * len(said)):
        data[at : at + 4] = size.to_bytes(4, "little")
        if size < len(said):
            data[4:8] = (at + size).to_bytes(4, "little")
        for cut in (1, 1000, len(data)):
            heard = decoded(chunks(bytes(data), cut))
            assert heard == said
            assert decoded(chunks(bytes(data) * 2, cut)) == said * 2


def test_a_whole_wav_in_each_message_is_heard() -> None:
    """Recorder.js does so."""
    said = clip.pcm(seconds=0.5)
    files = [encoded(piece, FORMS[25]) for piece in chunks(said, 3200)]
    assert decoded(files) == said
    assert decoded(chunks(b"".join(files), 7)) == said


def test_chunks_after_the_samples_are_no_samples() -> None:
    said = clip.pcm(seconds=0.1)
    data = encoded(said, FORMS[25])
    for tail in (b"LIST\x04\0\0\0INFO", b"id3 \x03\0\0\0abc\0", b"LIST\xff\0\0\0"):
        assert decoded(chunks(data + tail, 5)) == said
