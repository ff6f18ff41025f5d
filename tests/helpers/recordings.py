"""Sound files of libsndfile, changed to those that recorders leave behind, and their decoded samples."""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from speechbridge.cli.containers import Frame
from speechbridge.cli.recording import Pipe, Raw, Recording

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ONE, TWO = 1.0, 0.5  # seconds
DICE = np.random.default_rng(1)
FORMATS = {"wav": None, "flac": None, "ogg": "VORBIS", "opus": "OPUS", "mp3": None}


def noise(seconds: float, rate: int = 16000) -> NDArray[np.int16]:
    return DICE.integers(-8000, 8000, round(seconds * rate), dtype=np.int16)


def encoded(samples: NDArray[np.int16], kind: str, rate: int = 16000) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, rate, format="OGG" if kind == "opus" else kind, subtype=FORMATS[kind])
    return file.getvalue()


def decoded(path: Path) -> bytes:
    with Recording(path) as recording:
        return b"".join(recording.blocks())


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """Return a WAV with other sizes in its header, which must have the usual 44 bytes."""
    return wav[:4] + struct.pack("<I", riff) + wav[8:40] + struct.pack("<I", data) + wav[44:]


def without_xing(mp3: bytes) -> bytes:
    """Return an MP3 without its Xing header, the first frame: as a live encoder writes it."""
    first = Frame.at(mp3, 0)
    assert first is not None
    assert b"Info" in mp3[: first.size] or b"Xing" in mp3[: first.size]
    return mp3[first.size :]


SIZED = ["aiff", "au", "caf", "w64", "rf64", "rifx"]  # kinds whose header has the size of the file


def sized(samples: NDArray[np.int16], kind: str) -> bytes:
    content = BytesIO()
    is_rifx = kind == "rifx"
    soundfile.write(content, samples, 16000, format="wav" if is_rifx else kind, endian="BIG" if is_rifx else "FILE")
    return content.getvalue()


def piped(content: bytes, raw: Raw | None = None, size: int = 4096) -> bytes:
    """Return the samples decoded from a pipe into which this content is written in pieces."""
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
