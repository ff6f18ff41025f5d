"""Sound that comes through a pipe: heard as it comes, whatever is joined in it."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import threading
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from speechbridge.cli.exits import BadInput
from speechbridge.cli.recording import Pipe, Raw
from tests.helpers.recordings import FORMATS, ONE, TWO, decoded, encoded, file, noise, piped, with_sizes, without_xing

if TYPE_CHECKING:
    from pathlib import Path


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
    content = [mp3 if note else without_xing(mp3) for mp3, note in zip(files, noted, strict=True)]
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
    assert decoded(file(tmp_path / "a.wav", stale)) == one.tobytes() == piped(stale)
    tagged = wav + b"id3 " + struct.pack("<I", 2000) + bytes(2000)
    assert decoded(file(tmp_path / "a.wav", tagged)) == one.tobytes() == piped(tagged)


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


@pytest.mark.slow
def test_stdin_that_is_a_device_is_told() -> None:
    command = [sys.executable, "-m", "speechbridge", "transcribe", "-"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "speechbridge: stdin holds no file: pipe a sound file into it\n")


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
