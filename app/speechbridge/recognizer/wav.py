"""Reads WAV files that arrive in pieces of any size: finds their format, and passes their samples on. Pure, no I/O.

Supported is RIFF/WAVE with 16-bit PCM, as WAVE_FORMAT_PCM or as WAVE_FORMAT_EXTENSIBLE. Chunks other than `fmt ` and
`data` are skipped. Source: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and the
documentation of WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.audio import WAV_CHUNKS
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator

HEADER_BYTES = 1 << 20  # most bytes before the samples: enough for an embedded picture
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # placeholders of programs that cannot seek back to write the size

PCM, EXTENSIBLE = 0x0001, 0xFFFE
PCM_SUBFORMAT = struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
RATES = range(8000, 192001)
CHANNELS = range(1, 11)  # as Rev.ai accepts in raw audio

NEXT_FILE = b"RIFF....WAVEfmt "  # the dots are a size; in samples this occurs by chance once in 2**96 places
NEXT_FILE_LIKE = re.compile(NEXT_FILE, re.DOTALL)
CHUNK_LIKE = re.compile(rb"[\x20-\x7e]{4}")  # the name of any chunk, only within the size that the file's header gives

CURE = "send RIFF/WAVE with 16-bit PCM"


@dataclass(frozen=True, slots=True)
class Format:
    """Interleaved S16LE: `rate` in Hz, and the number of `channels`."""

    rate: int
    channels: int

    @property
    def frame(self) -> int:
        """Bytes of one sample of each channel."""
        return 2 * self.channels

    @property
    def bytes_per_second(self) -> int:
        return self.frame * self.rate


class WavReader:
    """Takes the bytes of files, and returns stretches of samples, each with its format.

    With a placeholder as their size (0 or 0xFFFFFFFF), the samples extend to the end. Nothing that may be speech is
    dropped:

    - Files may follow each other, each with its own format: some clients send a whole file in each message. A file
      that is shorter than its header says ends where the next one begins.
    - Bytes after the samples that are neither another chunk nor another file are samples, too: the size in the header
      was too small, as it was written with the first message of a recording.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # of a header: bounded by HEADER_BYTES and one piece
        self._found: list[tuple[Format, bytes]] = []
        self._format: Format | None = None  # from the last complete header
        self._header_bytes = 0
        self._partial = b""  # an incomplete frame; a frame is one sample of each channel
        self._is_fed = self._has_samples = self._is_in_samples = False
        self._parser = self._files()
        next(self._parser)

    def feed(self, data: bytes) -> list[tuple[Format, bytes]]:
        """Return the samples in these bytes, as whole frames. Raises BadRequest if this is not such a file."""
        self._is_fed = self._is_fed or bool(data)
        self._buffer += data
        self._parser.send(None)
        found, self._found = self._found, []
        return found

    def finish(self) -> list[tuple[Format, bytes]]:
        """End the input; return the last samples. Raises BadRequest if there was input, but no samples in it."""
        if self._is_fed and not self._has_samples:
            raise BadRequest(f"the WAV file ends before its samples: {CURE}")
        if self._is_in_samples:
            self._emit(len(self._buffer))
        return self._found

    def _files(self) -> Generator[None]:
        while True:
            yield from self._file()

    def _file(self) -> Generator[None]:
        """Read one file, up to the beginning of the next."""
        self._is_in_samples = False
        size, left_after = yield from self._header()
        padding = size % 2
        while True:
            self._is_in_samples = True
            yield from self._samples(math.inf if size in UNKNOWN_SIZES else size)
            self._is_in_samples = False
            self._partial = b""
            if (yield from self._begins_file()):
                return
            del self._buffer[:padding]  # chunks begin at even offsets
            while (yield from self._begins_chunk(left_after - padding)):
                name_and_size = yield from self._next(8)
                body = int.from_bytes(name_and_size[4:], "little")
                left_after -= 8 + body + body % 2
                yield from self._skip(body + body % 2)
            if (yield from self._begins_file()):
                return
            size, padding = UNKNOWN_SIZES[0], 0

    def _header(self) -> Generator[None, None, tuple[int, int]]:
        """Read up to the samples. Return the number of their bytes, and the number of the file's bytes after them."""
        self._header_bytes, found = 0, None
        riff = yield from self._take(12)
        if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            raise BadRequest(f"this is not a WAV file: {CURE}")
        while True:
            name, size = struct.unpack("<4sI", (yield from self._take(8)))
            if name == b"data":
                break
            body = yield from self._take(size + size % 2)
            if name == b"fmt ":
                found = _format(body)
        if found is None:
            raise BadRequest(f"the WAV file has no format before its samples: {CURE}")
        self._format, self._has_samples = found, True
        return size, 8 + int.from_bytes(riff[4:8], "little") - self._header_bytes - size

    def _samples(self, left: float) -> Generator[None]:
        """Pass on `left` bytes of samples, or fewer if another file begins before."""
        while left > 0:
            start = self._buffer.find(b"RIFF")
            is_known = start < 0 or len(self._buffer) >= start + len(NEXT_FILE)
            if start >= 0 and is_known and NEXT_FILE_LIKE.match(self._buffer, start):
                self._emit(int(min(start, left)))
                return
            safe = start + (4 if is_known else 0) if start >= 0 else len(self._buffer) - _begun(self._buffer)
            passed = int(min(safe, left))
            self._emit(passed)
            left -= passed
            if not passed:
                yield

    def _emit(self, count: int) -> None:
        if self._format is None:  # no header is complete yet
            return
        samples = self._partial + bytes(self._buffer[:count])
        del self._buffer[:count]
        whole = len(samples) - len(samples) % self._format.frame
        self._partial = samples[whole:]
        if whole:
            self._found.append((self._format, samples[:whole]))

    def _begins_file(self) -> Generator[None, None, bool]:
        while len(self._buffer) < 4:
            yield
        return self._buffer.startswith(b"RIFF")

    def _begins_chunk(self, left: int) -> Generator[None, None, bool]:
        """Tell whether another chunk of the file follows. `left` is the rest of the size in the file's header."""
        while len(self._buffer) < 4:
            yield
        name = bytes(self._buffer[:4])
        return name != b"RIFF" and (name in WAV_CHUNKS or (left >= 8 and CHUNK_LIKE.fullmatch(name) is not None))

    def _skip(self, count: int) -> Generator[None]:
        while count > 0:
            skipped = min(count, len(self._buffer))
            del self._buffer[:skipped]
            count -= skipped
            if count:
                yield

    def _take(self, count: int) -> Generator[None, None, bytes]:
        self._header_bytes += count
        if self._header_bytes > HEADER_BYTES:  # checked before the bytes are read: a chunk's size may be any 32 bits
            raise BadRequest(f"the WAV file has no samples in its first {HEADER_BYTES} bytes: {CURE}")
        return (yield from self._next(count))

    def _next(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _begun(data: bytearray) -> int:
    """Return how many bytes at the end of the data may be the beginning of RIFF."""
    return next((count for count in (3, 2, 1) if data.endswith(b"RIFF"[:count])), 0)


def _format(body: bytes) -> Format:
    if len(body) < 16:
        raise BadRequest(f"the WAV file's format is truncated: {CURE}")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", body)
    if tag == EXTENSIBLE and body[24:40] == PCM_SUBFORMAT:
        tag = PCM
    if tag != PCM or bits != 16:
        raise BadRequest(f"the WAV file holds format {tag:#06x} with {bits} bits: {CURE}")
    if rate not in RATES or channels not in CHANNELS or block != 2 * channels:
        raise BadRequest(
            f"WAV with rate {rate}, channels {channels}: send {RATES.start} to {RATES.stop - 1} Hz,"
            f" {CHANNELS.start} to {CHANNELS.stop - 1} channels"
        )
    return Format(rate, channels)
