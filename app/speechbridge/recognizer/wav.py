"""A WAV file that arrives in pieces of any size: find its format, pass its samples on. Pure, no I/O.

What is read: RIFF/WAVE with 16-bit PCM, said plainly or as WAVE_FORMAT_EXTENSIBLE. Chunks other than `fmt ` and
`data` are skipped. Source: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and the
documentation of WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator

HEADER_BYTES = 1 << 20  # what may stand before the samples: an embedded picture fits, an endless chunk does not
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # what a writer leaves that cannot go back to fill the size in

PCM, EXTENSIBLE = 0x0001, 0xFFFE
PCM_SUBFORMAT = struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
RATES = range(8000, 192001)
CHANNELS = range(1, 11)  # as many as Rev.ai takes in raw audio

CURE = "send RIFF/WAVE with 16-bit PCM"


@dataclass(frozen=True, slots=True)
class Format:
    """Interleaved S16LE: `rate` in samples a second, number of `channels`."""

    rate: int
    channels: int

    @property
    def bytes_per_second(self) -> int:
        return 2 * self.rate * self.channels


class WavReader:
    """Feed it a file's bytes, get its samples' bytes; `format` is known before the first of them.

    What follows the samples is not passed on. A size that says nothing (0 or 0xFFFFFFFF) means: until the end.
    """

    def __init__(self) -> None:
        self.format: Format | None = None
        self._buffer = bytearray()  # of the header: bounded by HEADER_BYTES and one piece
        self._taken = 0
        self._fed = False
        self._left: float | None = None  # bytes of samples to come, once they have begun
        self._parser = self._parse()
        next(self._parser)

    def feed(self, data: bytes) -> bytes:
        """Return the samples among these bytes. Raises BadRequest for what is not such a file."""
        self._fed = self._fed or bool(data)
        if self._left is None:
            try:
                self._parser.send(data)
            except StopIteration:  # the header is complete; what is left of the buffer are samples
                data = bytes(self._buffer)
                self._buffer.clear()
        if self._left is None:
            return b""
        samples = data[: int(min(self._left, len(data)))]
        self._left -= len(samples)
        return samples

    def finish(self) -> None:
        """Say that no bytes follow. Raises BadRequest when some came, but no samples among them."""
        if self._left is None and self._fed:
            raise BadRequest(f"the WAV file ends before its samples: {CURE}")

    def _parse(self) -> Generator[None, bytes, None]:
        riff = yield from self._take(12)
        if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            raise BadRequest(f"this is not a WAV file: {CURE}")
        while True:
            name, size = struct.unpack("<4sI", (yield from self._take(8)))
            if name == b"data":
                break
            body = yield from self._take(size + size % 2)  # chunks begin at even offsets
            if name == b"fmt ":
                self.format = _format(body)
        if self.format is None:
            raise BadRequest(f"the WAV file does not say its format before its samples: {CURE}")
        self._left = math.inf if size in UNKNOWN_SIZES else size

    def _take(self, count: int) -> Generator[None, bytes, bytes]:
        self._taken += count
        if self._taken > HEADER_BYTES:  # said before it is read: a chunk's size may be any 32 bits
            raise BadRequest(f"the WAV file has no samples in its first {HEADER_BYTES} bytes: {CURE}")
        while len(self._buffer) < count:
            self._buffer += yield
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


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
