"""WAV files that arrive in pieces of any size: find their format, pass their samples on. Pure, no I/O.

What is read: RIFF/WAVE with 16-bit PCM, said plainly or as WAVE_FORMAT_EXTENSIBLE. Chunks other than `fmt ` and
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

HEADER_BYTES = 1 << 20  # what may stand before the samples: an embedded picture fits, an endless chunk does not
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a writer leaves that cannot go back to fill the size in

PCM, EXTENSIBLE = 0x0001, 0xFFFE
PCM_SUBFORMAT = struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
RATES = range(8000, 192001)
CHANNELS = range(1, 11)  # as many as Rev.ai takes in raw audio

NEXT_FILE = b"RIFF....WAVEfmt "  # the dots are a size: what samples hold by chance once in 2**96 places
NEXT_FILE_LIKE = re.compile(NEXT_FILE, re.DOTALL)
CHUNK_LIKE = re.compile(rb"[\x20-\x7e]{4}")  # only where the file says that there is more of it

CURE = "send RIFF/WAVE with 16-bit PCM"


@dataclass(frozen=True, slots=True)
class Format:
    """Interleaved S16LE: `rate` in samples a second, number of `channels`."""

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
    """Feed it a file's bytes, get its samples; each stretch of them with its format.

    A size that says nothing (0 or 0xFFFFFFFF) means: until the end. Nothing that may be speech is dropped:

    - Files may follow each other, each with a format of its own: some clients send a whole one in each message.
      A file that is shorter than its header says ends where the next one begins.
    - What follows the samples, and is neither another chunk nor another file, are samples: the size was too small,
      because it was written with the first message of a recording.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # of a header: bounded by HEADER_BYTES and one piece
        self._found: list[tuple[Format, bytes]] = []
        self._format: Format | None = None  # of the file whose header was the last to be complete
        self._header_bytes = 0
        self._partial = b""  # of a frame: one sample of each channel
        self._is_fed = self._has_samples = self._is_in_samples = False
        self._parser = self._files()
        next(self._parser)

    def feed(self, data: bytes) -> list[tuple[Format, bytes]]:
        """Return the samples among these bytes, as whole frames. Raises BadRequest for what is not such a file."""
        self._is_fed = self._is_fed or bool(data)
        self._buffer += data
        self._parser.send(None)
        found, self._found = self._found, []
        return found

    def finish(self) -> list[tuple[Format, bytes]]:
        """Say that no bytes follow; return the last samples. Raises BadRequest if none came in what did."""
        if self._is_fed and not self._has_samples:
            raise BadRequest(f"the WAV file ends before its samples: {CURE}")
        if self._is_in_samples:
            self._emit(len(self._buffer))
        return self._found

    def _files(self) -> Generator[None]:
        while True:
            yield from self._file()

    def _file(self) -> Generator[None]:
        """Read up to where the next file begins."""
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
        """Read up to the samples. Return how many bytes of them there are, and how many of the file's follow them."""
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
            raise BadRequest(f"the WAV file does not say its format before its samples: {CURE}")
        self._format, self._has_samples = found, True
        return size, 8 + int.from_bytes(riff[4:8], "little") - self._header_bytes - size

    def _samples(self, left: float) -> Generator[None]:
        """Pass so many bytes on, or as many as there are before the next file."""
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
        if self._format is None:  # not before a header is complete
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
        """Whether another chunk of the file comes. `left` is how many bytes the file still has, as it says."""
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
        if self._header_bytes > HEADER_BYTES:  # said before it is read: a chunk's size may be any 32 bits
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
        raise BadRequest(f"the WAV file's format is cut short: {CURE}")
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
