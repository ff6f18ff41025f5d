"""Sound files as people have them: joined by `cat`, written into a pipe, never finished, or coming through a pipe."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import threading
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from speechbridge.cli.containers import Frame, parts_of
from speechbridge.cli.exits import BadInput
from speechbridge.cli.recording import Pipe, Raw, Recording, sound_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Samples = "NDArray[np.int16]"
ONE, TWO = 1.0, 0.5  # seconds
DICE = np.random.default_rng(1)
FORMATS = {"wav": None, "flac": None, "ogg": "VORBIS", "opus": "OPUS", "mp3": None}


def noise(seconds: float, rate: int = 16000) -> NDArray[np.int16]:
    return DICE.integers(-8000, 8000, round(seconds * rate), dtype=np.int16)


def encoded(samples: NDArray[np.int16], kind: str, rate: int = 16000) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, rate, format="OGG" if kind == "opus" else kind, subtype=FORMATS[kind])
    return file.getvalue()


def heard(path: Path) -> bytes:
    with Recording(path) as recording:
        return b"".join(recording.blocks())


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """Return a WAV whose header tells other sizes: the usual one, of 44 bytes."""
    return wav[:4] + struct.pack("<I", riff) + wav[8:40] + struct.pack("<I", data) + wav[44:]


def without_note(mp3: bytes) -> bytes:
    """Return an MP3 without the first frame, which tells how many there are: as a live encoder writes it."""
    first = Frame.at(mp3, 0)
    assert first is not None
    assert b"Info" in mp3[: first.size] or b"Xing" in mp3[: first.size]
    return mp3[first.size :]


# ---- joined files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_each_sample_of_joined_files_is_heard(kind: str, tmp_path: Path) -> None:
    one, two = noise(ONE), noise(TWO)
    path = file(tmp_path / f"a.{kind}", encoded(one, kind) + encoded(two, kind) + encoded(one, kind))
    assert heard(path) == one.tobytes() + two.tobytes() + one.tobytes()


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
    content = [mp3 if note else without_note(mp3) for mp3, note in zip(files, noted, strict=True)]
    assert len(heard(file(tmp_path / "a.mp3", b"".join(content)))) / 32000 == pytest.approx(ONE + TWO, abs=0.2)


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
    assert heard(path) == one.tobytes() + (two.tobytes() if followed else b"")


def test_a_wav_without_samples_but_with_a_chunk_after_them_holds_no_audio(tmp_path: Path) -> None:
    wav = encoded(noise(0), "wav")[:44] + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path = file(tmp_path / "a.wav", with_sizes(wav, len(wav) - 8, 0))
    with pytest.raises(BadInput, match="it holds no audio"):
        heard(path)


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
    with Recording(file(tmp_path / "a.mp3", without_note(content.getvalue()))) as recording:
        assert recording.seconds == pytest.approx(6, abs=0.2)
        assert sum(map(len, recording.blocks())) / 32000 == pytest.approx(6, abs=0.2)


# ---- pipes -----------------------------------------------------------------------------------------------------------


def piped(content: bytes, raw: Raw | None = None, size: int = 4096) -> bytes:
    """Return what is heard of a pipe that gets this content, in pieces."""
    reading, writing = os.pipe()

    def fill() -> None:
        with open(writing, "wb", buffering=0) as end, suppress(BrokenPipeError):  # noqa: PTH123 # a descriptor
            end.writelines(content[start : start + size] for start in range(0, len(content), size))

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        with Pipe(reading, "stdin", raw) as pipe:
            return b"".join(pipe.blocks())
    finally:
        os.close(reading)
        filling.join()


@pytest.mark.parametrize("size", [7, 4096, 10**6])
def test_a_wav_comes_through_a_pipe(size: int) -> None:
    one = noise(TWO)
    assert piped(encoded(one, "wav"), size=size) == one.tobytes()
    assert piped(with_sizes(encoded(one, "wav"), 0xFFFFFFFF, 0xFFFFFFFF), size=size) == one.tobytes()
    assert piped(with_sizes(encoded(one, "wav"), 36, 0), size=size) == one.tobytes()


def test_raw_samples_come_through_a_pipe() -> None:
    one, two = noise(ONE), noise(TWO)
    assert piped(one.tobytes(), Raw(16000, 1), size=4095) == one.tobytes()
    stereo = np.stack([two, two], axis=1)
    assert piped(stereo.tobytes(), Raw(16000, 2)) == two.tobytes()


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus", "mp3"])
def test_other_kinds_come_through_a_pipe_and_joined_ones_too(kind: str) -> None:
    content = encoded(noise(ONE), kind) + encoded(noise(TWO), kind)
    assert len(piped(content)) / 32000 == pytest.approx(ONE + TWO, abs=0.1)


@pytest.mark.parametrize("size", [7, 4096])
@pytest.mark.parametrize("riff", [None, 0xFFFFFFFF])
def test_wavs_that_are_joined_in_a_pipe_are_all_heard(size: int, riff: int | None) -> None:
    one, two = noise(ONE), noise(TWO)
    wavs = [encoded(samples, "wav") for samples in (one, two, one)]
    content = b"".join(wavs if riff is None else [with_sizes(wav, riff, riff) for wav in wavs])
    assert piped(content, size=size) == one.tobytes() + two.tobytes() + one.tobytes()


@pytest.mark.parametrize("size", [7, 4096])
@pytest.mark.parametrize("noted", [(True, False), (False, True), (False, False), (True, True)])
@pytest.mark.parametrize("rates", [(16000, 16000), (16000, 48000)])
def test_mp3s_that_are_joined_in_a_pipe_are_all_heard(
    size: int, noted: tuple[bool, bool], rates: tuple[int, int]
) -> None:
    files = [encoded(noise(s, rate), "mp3", rate) for s, rate in zip((ONE, TWO), rates, strict=True)]
    content = [mp3 if note else without_note(mp3) for mp3, note in zip(files, noted, strict=True)]
    tags = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256), b"TAG" + bytes(125)
    assert len(piped(tags[0] + content[0] + tags[1] + content[1], size=size)) / 32000 == pytest.approx(1.5, abs=0.2)


def test_a_flac_that_was_written_into_a_pipe_is_heard_from_one() -> None:
    one = noise(ONE)
    flac = bytearray(encoded(one, "flac"))
    flac[8 + 13] &= 0xF0
    flac[8 + 14 : 8 + 18] = bytes(4)
    assert piped(bytes(flac) + encoded(one, "flac")) == one.tobytes() * 2


@pytest.mark.parametrize("kind", ["aiff", "au", "caf", "w64", "rf64"])
def test_kinds_that_are_sought_in_are_heard_once_the_pipe_has_ended(kind: str) -> None:
    one, content = noise(ONE), BytesIO()
    soundfile.write(content, one, 16000, format=kind)
    assert piped(content.getvalue()) == one.tobytes()


def test_what_follows_a_wav_whose_size_was_never_updated_is_heard(tmp_path: Path) -> None:
    """In a file and in a pipe, and a tag after the samples is no sound."""
    one = noise(ONE)
    wav = encoded(one, "wav")
    stale = with_sizes(wav, 36 + 8000, 8000)
    assert heard(file(tmp_path / "a.wav", stale)) == one.tobytes() == piped(stale)
    tagged = wav + b"id3 " + struct.pack("<I", 2000) + bytes(2000)
    assert heard(file(tmp_path / "a.wav", tagged)) == one.tobytes() == piped(tagged)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_what_is_cut_off_in_a_pipe_is_told(kind: str) -> None:
    content = encoded(noise(4.0), kind)
    with pytest.raises(BadInput, match=r"stdin: (ends|damaged) after"):
        piped(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "stdin: it is empty"), (b"RIFF", "stdin: no audio"), (b"no sound at all", "stdin: no audio can be read")],
)
def test_a_pipe_without_sound_is_told(content: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        piped(content)


@pytest.mark.parametrize("kind", FORMATS)
async def test_each_kind_is_heard_while_the_pipe_is_open_and_stop_frees_whoever_waits(kind: str) -> None:
    reading, writing = os.pipe()
    one = noise(8.0)
    content = encoded(one, kind)
    content = with_sizes(content, 0xFFFFFFFF, 0xFFFFFFFF) if kind == "wav" else content
    begun = threading.Thread(target=os.write, args=(writing, content[: len(content) // 2]))
    begun.start()
    try:
        with Pipe(reading, "stdin") as pipe:
            blocks = pipe.blocks()
            for _ in range(10):  # a second, of four that were written
                block = await asyncio.to_thread(next, blocks)
                assert len(block) <= 3200
            waiting = asyncio.create_task(asyncio.to_thread(list, blocks))
            begun.join()
            pipe.stop()
            assert sum(map(len, await waiting)) < 7 * 32000
    finally:
        os.close(writing)  # the thread that reads it ends
        for thread in threading.enumerate():
            if thread.name == "pipe-stdin":
                thread.join()
        os.close(reading)


# ---- what a name or a descriptor leads to ----------------------------------------------------------------------------


def test_a_name_that_is_no_utf_8_can_be_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.wav"
    one = noise(TWO)
    with open(path, "wb") as target:  # noqa: PTH123 # a name that pathlib would decode
        target.write(encoded(one, "wav"))
    assert heard(tmp_path / os.fsdecode(b"\xff\xfe.wav")) == one.tobytes()


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
