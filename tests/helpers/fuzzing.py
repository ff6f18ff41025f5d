"""Streams for the fuzzer: recordings of clients, damaged in every way, and split anywhere."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from speechbridge.codecs import Decoder, decode_file
from speechbridge.protocol.close import fit_reason
from speechbridge.protocol.request import BadRequest, ContentType
from tests.helpers import clip
from tests.helpers.encoded import FORMS, Form, encoded, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 0.25  # of speech: headers are a good part of it
LONGEST = 5.0  # seconds of CPU time for one stream

MAGIC = [
    b"\x1a\x45\xdf\xa3",
    b"OggS",
    b"fLaC",
    b"ID3",
    b"RIFF",
    b"moov",
    b"moof",
    b"mdat",
    b"trun",
    b"\xff\xfb",
    b"\xff\xf1",
]
SIZES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x01\xff\xff\xff\xff\xff\xff\xff", b"\xff", b"\x80"]


@dataclass(frozen=True)
class Change:
    """Replace so many bytes from a place on with others."""

    place: float  # a share of the stream
    removed: int
    put: bytes

    def apply(self, data: bytes) -> bytes:
        at = int(self.place * len(data))
        return data[:at] + self.put + data[at + self.removed :]


def changed(data: bytes, changes: tuple[Change, ...]) -> bytes:
    for change in changes:
        data = change.apply(data)
    return data


@dataclass(frozen=True)
class Spoilt:
    """A damaged stream, its announced media type, and where it is split."""

    form: Form
    changes: tuple[Change, ...]
    media: str
    cuts: tuple[float, ...]

    def pieces(self) -> list[bytes]:
        data = changed(reading(self.form, SECONDS), self.changes)
        return [data[a:b] for a, b in pairwise([0, *(int(cut * len(data)) for cut in self.cuts), len(data)])]


# Half of the places are in the headers.
places = st.floats(0, 1) | st.floats(0, 0.1)
changes = st.builds(
    Change,
    places,
    st.sampled_from([0, 1, 2, 4, 8]) | st.integers(0, 5000),
    st.binary(max_size=8) | st.sampled_from(MAGIC) | st.sampled_from(SIZES) | st.binary(max_size=5000),
)


def spoilt(forms: list[Form]) -> st.SearchStrategy[Spoilt]:
    return st.builds(
        Spoilt,
        st.sampled_from(forms),
        st.lists(changes, max_size=6).map(tuple),
        st.sampled_from([ContentType.UNDECLARED, *(form.media for form in forms)]),
        st.lists(st.floats(0, 1), max_size=6).map(sorted).map(tuple),
    )


# Mostly formats that only FFmpeg's demuxers read.
FILES = (
    Form("", "mp4", "aac", 44100, sample="fltp"),
    Form("", "mov", "pcm_s16be"),
    Form("", "avi", "libmp3lame", 44100, sample="s16p"),
    Form("", "mpegts", "aac", 44100, sample="fltp"),
    Form("", "flv", "aac", 44100, sample="fltp"),
    Form("", "matroska", "ac3", 44100, sample="fltp"),
    Form("", "wav", "adpcm_ima_wav", sample="s16p"),
    Form("", "aiff", "pcm_s16be"),
    Form("", "caf", "alac", sample="s16p"),
    Form("", "au", "pcm_mulaw", 8000),
    Form("", "w64", "pcm_s16le"),
    Form("", "wv", "wavpack", sample="s16p"),
    Form("", "tta", "tta"),
    Form("", "mp3", "libmp3lame", sample="fltp"),
    Form("", "webm", "libopus", 48000, sample="flt"),
)


@cache
def stored(form: Form) -> bytes:
    """Return a file of some speech, as it lies on a disk."""
    return encoded(clip.pcm(seconds=SECONDS), form, seekable=True)


spoilt_files = st.builds(
    lambda form, made: changed(stored(form), tuple(made)), st.sampled_from(FILES), st.lists(changes, max_size=6)
) | st.binary(max_size=2000)


def file_heard(data: bytes) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield from decode_file(file.fileno())


def any_file_is_heard_or_refused(data: bytes) -> None:
    """In limited time, in pieces of limited size; a refusal's reason fits a close frame."""
    begun = time.thread_time()
    try:
        for pcm in file_heard(data):
            assert 0 < len(pcm) <= 32_000
            assert len(pcm) % 2 == 0
    except BadRequest as error:
        assert str(error) == fit_reason(str(error))  # noqa: PT017 # most inputs raise nothing
    assert time.thread_time() - begun < LONGEST


def any_stream_is_heard_or_refused(stream: Spoilt) -> None:
    """In limited time, in pieces of limited size; a refusal's reason fits a close frame."""
    begun = time.thread_time()
    reason = ""
    try:
        for pcm in _heard(stream):
            assert len(pcm) % 2 == 0
            assert len(pcm) <= 3200
    except BadRequest as error:
        reason = str(error)
    assert reason == fit_reason(reason)
    assert time.thread_time() - begun < LONGEST


def _heard(stream: Spoilt) -> Iterator[bytes]:
    decoder = Decoder(ContentType.parse(stream.media))
    for piece in stream.pieces():
        yield from decoder.feed(piece)
        decoder.is_stalled()
    yield from decoder.finish()


ENTRIES = {media: [form for form in FORMS if form.media == media] for media in {form.media for form in FORMS}}
"""For each media type, the forms of its streams."""
