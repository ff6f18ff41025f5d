"""Sound files as people have them: joined by `cat`, written into a pipe, or never finished."""

from __future__ import annotations

import os
import struct
import sys
import threading
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from speechbridge.cli.containers import parts_of
from speechbridge.cli.exits import BadInput
from speechbridge.cli.recording import Raw, Recording, sound_of
from speechbridge.cli.sized import W64_RIFF
from tests.helpers.recordings import (
    FORMATS,
    ONE,
    SIZED,
    TWO,
    decoded,
    encoded,
    file,
    noise,
    piped,
    sized,
    with_sizes,
    without_xing,
)

if TYPE_CHECKING:
    from pathlib import Path


Samples = "NDArray[np.int16]"
# ---- joined files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_each_sample_of_joined_files_is_heard(kind: str, tmp_path: Path) -> None:
    one, two = noise(ONE), noise(TWO)
    path = file(tmp_path / f"a.{kind}", encoded(one, kind) + encoded(two, kind) + encoded(one, kind))
    assert decoded(path) == one.tobytes() + two.tobytes() + one.tobytes()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rates", [(16000, 16000), (16000, 48000)])
def test_joined_files_are_heard_whole_whatever_their_rates(kind: str, rates: tuple[int, int], tmp_path: Path) -> None:
    content = encoded(noise(ONE, rates[0]), kind, rates[0]) + encoded(noise(TWO, rates[1]), kind, rates[1])
    with Recording(file(tmp_path / f"a.{kind}", content)) as recording:
        assert recording.seconds == pytest.approx(ONE + TWO, abs=0.1)
        assert sum(map(len, recording.blocks())) / 32000 == pytest.approx(ONE + TWO, abs=0.1)


@pytest.mark.parametrize("rates", [(16000, 16000), (16000, 48000), (48000, 16000)])
@pytest.mark.parametrize("noted", [(True, False), (False, True), (False, False)])
def test_joined_mp3s_are_heard_whole_that_do_not_tell_their_length(
    rates: tuple[int, int], noted: tuple[bool, bool], tmp_path: Path
) -> None:
    files = [encoded(noise(s, rate), "mp3", rate) for s, rate in zip((ONE, TWO), rates, strict=True)]
    content = [mp3 if note else without_xing(mp3) for mp3, note in zip(files, noted, strict=True)]
    assert len(decoded(file(tmp_path / "a.mp3", b"".join(content)))) / 32000 == pytest.approx(ONE + TWO, abs=0.2)


@pytest.mark.parametrize(
    "tag",
    [
        b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256),
        b"ID3\x04\x00\x10" + bytes([0, 0, 0, 5]) + b"\xff\xfb\x90\x64\x00" + bytes(10),  # with a footer, and a trap
        b"TAG" + bytes(125),
        b"APETAGEX" + struct.pack("<III", 2000, 64, 1) + bytes(12 + 64),
    ],
)
def test_tags_before_between_and_after_mp3s_are_no_sound(tag: bytes, tmp_path: Path) -> None:
    one = encoded(noise(ONE), "mp3")
    tagged = file(tmp_path / "a.mp3", b"".join([tag if tag[:3] == b"ID3" else b"", one, tag, one, tag]))
    with Recording(tagged) as recording:
        assert recording.seconds == pytest.approx(2 * ONE, abs=0.1)
        assert sum(map(len, recording.blocks())) / 32000 == pytest.approx(2 * ONE, abs=0.1)


def test_streams_that_an_ogg_multiplexes_are_one_recording() -> None:
    """Both begin before either goes on: RFC 3533, 4. Only a page's header and its lengths are looked at."""

    def page(flags: int, serial: int) -> bytes:
        return (
            b"OggS\x00"
            + bytes([flags])
            + bytes(8)
            + struct.pack("<III", serial, 0, 0)
            + bytes([2, 255, 10])
            + bytes(265)
        )

    link = page(2, 1) + page(2, 2) + page(0, 1) + page(0, 2) + page(4, 1) + page(4, 2)
    assert [(part.start, part.end) for part in parts_of(link + b"damage" + link)] == [
        (0, len(link) + 6),
        (len(link) + 6, 2 * len(link) + 6),
    ]


@pytest.mark.parametrize("kind", SIZED)
def test_joined_files_of_kinds_that_tell_their_size_are_heard_whole(kind: str, tmp_path: Path) -> None:
    one, two = noise(ONE), noise(TWO)
    content = sized(one, kind) + sized(two, kind) + sized(one, kind)
    expected = one.tobytes() + two.tobytes() + one.tobytes()
    assert decoded(file(tmp_path / "a", content)) == expected == piped(content)


@cache
def one_second(kind: str) -> bytes:
    return sized(noise(ONE), kind) if kind in SIZED else encoded(noise(ONE), kind)


@pytest.mark.parametrize("second", ["wav", "flac", "ogg", "opus", *SIZED])
@pytest.mark.parametrize("first", ["wav", "ogg", "opus", "mp3", *SIZED])
def test_joined_files_of_different_kinds_are_heard_whole(first: str, second: str, tmp_path: Path) -> None:
    both = one_second(first) + one_second(second)
    for found in (decoded(file(tmp_path / "a", both)), piped(both)):
        assert len(found) / 32000 == pytest.approx(2 * ONE, abs=0.1)


@pytest.mark.parametrize("second", [b"\x1a\x45\xdf\xa3" + bytes(5000), b"\0\0\0\x1cftypM4A " + bytes(5000)])
def test_a_joined_file_that_cannot_be_read_is_told(second: bytes, tmp_path: Path) -> None:
    for first in (sized(noise(ONE), "au"), sized(noise(ONE), "aiff")):
        with pytest.raises(BadInput, match="no audio can be read"):
            decoded(file(tmp_path / "a", first + second))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 11, 12, 27, 44, 100])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_parts_of_a_fragment_cover_it(kind: str, size: int) -> None:
    fragment = encoded(noise(TWO), kind)[:size]
    parts = parts_of(fragment)
    assert parts[0].start == 0
    assert parts[-1].end == size


# ---- files that do not know their length -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("riff", "data"),
    [(0, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000)],
)
@pytest.mark.parametrize("followed", [False, True])
def test_a_wav_that_was_never_finished_is_heard_whole(riff: int, data: int, tmp_path: Path, *, followed: bool) -> None:
    one, two = noise(ONE), noise(TWO)
    unfinished = with_sizes(encoded(one, "wav"), riff, data)
    path = file(tmp_path / "a.wav", unfinished + (encoded(two, "wav") if followed else b""))
    assert decoded(path) == one.tobytes() + (two.tobytes() if followed else b"")


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("aiff", [(4, 4)]),
        ("au", [(8, 4)]),
        ("rf64", [(20, 8), (28, 8)]),
        ("w64", [(16, 8), (-8, 8)]),
    ],
)
@pytest.mark.parametrize("unknown", [b"\0", b"\xff"])
def test_other_kinds_that_were_never_finished_are_heard_whole(
    kind: str, places: list[tuple[int, int]], unknown: bytes, tmp_path: Path
) -> None:
    """The places of a file's sizes, and how many bytes each has; those below zero are before the samples."""
    one = noise(ONE)
    content = bytearray(sized(one, kind))
    samples = bytes(content).rfind(one.byteswap().tobytes() if kind in ("aiff", "au") else one.tobytes())
    for place, size in places:
        at = place if place >= 0 else samples + place
        content[at : at + size] = unknown * size
    assert decoded(file(tmp_path / "a", bytes(content))) == one.tobytes() == piped(bytes(content))


def test_a_caf_that_was_never_finished_is_heard_whole(tmp_path: Path) -> None:
    """Its size is -1, and a count of edits stands before the samples."""
    one = noise(ONE)
    content = bytearray(sized(one, "caf"))
    samples = bytes(content).rfind(one.byteswap().tobytes())
    content[samples - 12 : samples - 4] = b"\xff" * 8
    assert decoded(file(tmp_path / "a", bytes(content))) == one.tobytes() == piped(bytes(content))


@given(
    st.sampled_from([b"FORM", b"RIFX", b".snd", b"caff", b"RF64", b"RIFF", b"fLaC", b"OggS", b"ID3\x04", W64_RIFF]),
    st.lists(st.binary(max_size=40) | st.sampled_from([b"data", b"WAVE", b"ds64", b"\xff" * 8, bytes(8)]), max_size=12),
)
@example(b"caff", [bytes(4), b"data"])  # cut off within a chunk's header
def test_the_parts_of_any_bytes_are_within_them(magic: bytes, more: list[bytes]) -> None:
    content = magic + b"".join(more)
    parts = parts_of(content)
    assert parts[0].start <= len(content)
    assert all(0 <= part.start <= part.end <= len(content) + 1 for part in parts)


def test_a_wav_without_samples_but_with_a_chunk_after_them_holds_no_audio(tmp_path: Path) -> None:
    wav = encoded(noise(0), "wav")[:44] + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path = file(tmp_path / "a.wav", with_sizes(wav, len(wav) - 8, 0))
    with pytest.raises(BadInput, match="it holds no audio"):
        decoded(path)


def test_a_flac_that_was_written_into_a_pipe_is_not_damaged(tmp_path: Path) -> None:
    one = noise(ONE)
    flac = bytearray(encoded(one, "flac"))
    flac[8 + 13] &= 0xF0  # RFC 9639, 8.2: 36 bits for the number of samples; all zeros: unknown
    flac[8 + 14 : 8 + 18] = bytes(4)
    with Recording(file(tmp_path / "a.flac", bytes(flac))) as recording:
        assert recording.seconds is None
        assert b"".join(recording.blocks()) == one.tobytes()


def test_an_mp3_that_does_not_tell_its_length_is_not_damaged(tmp_path: Path) -> None:
    """Its length was guessed from the first bitrate: silence, then noise, at a variable one."""
    samples = np.concatenate([np.zeros(16000, np.int16), noise(5)])
    content = BytesIO()
    soundfile.write(content, samples, 16000, format="mp3", bitrate_mode="VARIABLE")
    with Recording(file(tmp_path / "a.mp3", without_xing(content.getvalue()))) as recording:
        assert recording.seconds == pytest.approx(6, abs=0.2)
        assert sum(map(len, recording.blocks())) / 32000 == pytest.approx(6, abs=0.2)


# ---- what a name or a descriptor leads to ----------------------------------------------------------------------------


def test_a_name_that_is_no_utf_8_can_be_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.wav"
    one = noise(TWO)
    with open(path, "wb") as target:  # noqa: PTH123 # a name that pathlib would decode
        target.write(encoded(one, "wav"))
    assert decoded(tmp_path / os.fsdecode(b"\xff\xfe.wav")) == one.tobytes()


def test_a_named_pipe_is_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    one = noise(TWO)
    filling = threading.Thread(target=lambda: path.write_bytes(encoded(one, "wav")))
    filling.start()
    with sound_of(path) as sound:
        assert sound.is_live
        assert b"".join(sound.blocks()) == one.tobytes()
    filling.join()


def test_raw_samples_are_read_from_a_file(tmp_path: Path) -> None:
    one = noise(TWO)
    with sound_of(file(tmp_path / "a.pcm", one.tobytes()), Raw(16000, 1)) as sound:
        assert sound.seconds == TWO
        assert b"".join(sound.blocks()) == one.tobytes()


def test_stdin_that_is_closed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadInput, match="stdin is closed"):
        sound_of(tmp_path.__class__("-"))
