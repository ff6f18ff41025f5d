"""Whole files, read by FFmpeg's demuxers: heard, or refused, and nothing else is opened for them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from speechbridge.codecs.files import PIECE
from speechbridge.protocol.request import BadRequest
from tests.helpers import clip
from tests.helpers.decoded import likeness
from tests.helpers.encoded import Form, encoded
from tests.helpers.fuzzing import FILES, Change, changed, file_heard, stored

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SAID = clip.pcm(seconds=2.0)
MP4, FLV = FILES[0], FILES[4]


def heard(data: bytes) -> bytes:
    pieces = list(file_heard(data))
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("form", FILES, ids=str)
def test_each_format_is_heard(form: Form) -> None:
    said = heard(encoded(SAID, form, seekable=True))
    assert abs(len(said) - len(SAID)) < 0.1 * len(SAID)
    assert likeness(SAID, said) > 0.9


def test_a_file_that_is_cut_is_heard_up_to_there() -> None:
    data = encoded(SAID, Form("", "aiff", "pcm_s16be"), seekable=True)
    said = heard(data[: len(data) // 2])
    assert SAID.startswith(said)
    assert len(said) > 0.45 * len(SAID)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100_000,
        random.Random(1).randbytes(100_000),
        b"Dear all, " * 1000,
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        stored(MP4)[:-1000],  # its index is cut off
        b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\xff\xff\x01\0\0\0\0\0\0\0\0\0\0\0data\xff\xff\xff\xff"
        + bytes(999),
    ],
    ids=["nothing", "zeros", "random", "text", "a picture", "half", "a WAV with 65,535 channels"],
)
def test_what_is_no_audio_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        heard(data)


def test_audio_that_nothing_decodes_is_refused() -> None:
    """PyAV has no decoder's context then: found by the fuzzer."""
    data = changed(stored(MP4), (Change(0.875, 0, b"\0"),))
    with pytest.raises(BadRequest, match="no audio track"):
        heard(data)


def test_a_track_that_appears_in_the_middle_of_a_file_is_not_heard() -> None:
    """PyAV has no such track at the end: found by the fuzzer."""
    whole = stored(FLV)
    data = changed(whole, (Change(0.875, 32, b""), Change(0.79296875, 17, b""), Change(0.26953125, 0, b"\x02")))
    assert 0 < len(heard(data)) < len(heard(whole))


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {0}\n",
        "file {0}",
    ],
)
def test_a_file_that_names_another_does_not_have_it_opened(text: str, tmp_path: Path) -> None:
    """A playlist would have any file of the machine read out."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded(SAID, Form("", "wav", "pcm_s16le")))
    with pytest.raises(BadRequest):
        heard(text.format(secret).encode())


def test_a_title_in_any_encoding_is_no_error() -> None:
    data = encoded(SAID, Form("", "wav", "pcm_s16le"))
    title = b"LIST\x12\0\0\0INFOINAM\x06\0\0\0Caf\xe9s\0"
    assert heard(data + title) == SAID
