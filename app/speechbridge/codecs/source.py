"""A buffer of bytes that arrive in pieces of any size, for readers that are generators. Pure, no I/O.

A reader takes bytes with `yield from source.take(8)`. If they have not arrived yet, it yields None, and is resumed when
more have. So a reader is written as if all of its input were there, and works for input that is cut anywhere.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.request import BadRequest, ContentType

if TYPE_CHECKING:
    from collections.abc import Generator

MOST = 2**20  # bytes of one packet or table: Opus has 1,275, a second of 24-bit stereo at 48 kHz 288,000
MOST_SKIPPED = 2**24  # bytes of one part that is skipped: pictures and comments
CHANNELS = range(1, 9)  # numbers of channels for which FFmpeg has a layout to mix
PLAIN = "pcm_s16le"  # of this codec, any number of channels can be averaged
RATES = range(4000, 384_001)  # Hz; a lower rate would turn a few bytes into many samples


class Ended(Exception):
    """The input ended while a reader waited for more."""


@dataclass(frozen=True, slots=True)
class Track:
    """An audio track: its codec, by FFmpeg's name, and its parameters; a 0 is not known, or is in the extradata.

    A reader yields a track before its first packet.
    """

    codec: str
    extradata: bytes = b""
    rate: int = 0  # Hz
    channels: int = 0

    def checked(self) -> Track:
        """Return the track itself. Raises BadRequest if a number is not possible."""
        if self.rate and self.rate not in RATES:
            raise BadRequest(f"the audio has {self.rate} samples a second: send {RATES[0]} to {RATES[-1]}")
        channels = ContentType.CHANNELS if self.codec == PLAIN else CHANNELS
        if self.channels and self.channels not in channels:
            raise BadRequest(f"the audio has {self.channels} channels: send {channels[0]} to {channels[-1]}")
        return self


class Source:
    """Bytes that have arrived and are not taken yet: at most MOST, and one piece."""

    def __init__(self) -> None:
        self.position = 0  # of the next byte, from the beginning
        self.received = self.dropped = 0  # all bytes; those skipped because their part holds no audio
        self.is_patient = False  # the reader waits for a part whose size is known, and may be large
        self.expected = 0  # bytes that the reader may need for the next samples; 0 if it does not know
        self._buffer = bytearray()
        self._has_ended = False

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data
        self.received += len(data)

    def end(self) -> None:
        """Say that no bytes follow."""
        self._has_ended = True

    def wait(self, count: int, most: int = MOST) -> Generator[None, None, None]:
        """Wait for so many bytes. Raises Ended if the input ends before, BadRequest if they are more than `most`."""
        if count > most:
            raise BadRequest(f"the stream is damaged, or of an unknown format: a part of it has {count} bytes")
        while len(self._buffer) < count:
            if self._has_ended:
                raise Ended
            yield

    def take(self, count: int) -> Generator[None, None, bytes]:
        """Take the next bytes, so many. Raises as `wait` does."""
        yield from self.wait(count)
        return self._pop(count)

    def take_long(self, count: int, most: int = MOST) -> Generator[None, None, bytes]:
        """Take the next bytes like `take`, of a part that may be large; see `is_patient`."""
        self.is_patient = True
        yield from self.wait(count, most)
        self.is_patient = False
        return self._pop(count)

    def peek(self, count: int) -> Generator[None, None, bytes]:
        """Return the next bytes without taking them; fewer, if the input ends before."""
        with suppress(Ended):
            yield from self.wait(count)
        return bytes(self._buffer[:count])

    def look(self) -> memoryview:
        """Return a view of the buffer. It must be released before bytes are added or taken."""
        return memoryview(self._buffer)

    def some(self, unit: int, most: int | None = None) -> Generator[None, None, bytes]:
        """Take whole units of `unit` bytes: as many as have arrived, at least one, at most 32 KiB."""
        yield from self.wait(unit)
        most = 2**15 if most is None else min(most, 2**15)
        return self._pop(min(len(self._buffer), most) // unit * unit)

    def skip(self, count: int) -> Generator[None, None, None]:
        """Drop so many bytes as they arrive."""
        if count > MOST_SKIPPED:
            raise BadRequest(f"the stream is damaged, or of an unknown format: a part of it has {count} bytes")
        self.is_patient = True
        while count:
            yield from self.wait(1)
            dropped = len(self._pop(min(count, len(self._buffer))))
            self.dropped += dropped
            count -= dropped
        self.is_patient = False

    def _pop(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self.position += count
        return taken
