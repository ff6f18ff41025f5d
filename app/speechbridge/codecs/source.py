"""Bytes that arrive in pieces of any size, for readers that are generators. Pure, no I/O.

A reader takes bytes with `yield from source.take(8)`. Where they have not come yet, it yields None, and is resumed once
there are more. So a reader is written as if all of its input were there, and works for input that is cut anywhere.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.request import BadRequest, ContentType

if TYPE_CHECKING:
    from collections.abc import Generator

MOST = 2**20  # bytes of one packet or table: Opus has 1,275, a second of 24-bit stereo at 48 kHz 288,000
MOST_SKIPPED = 2**24  # bytes at once: pictures and comments
CHANNELS = range(1, 9)  # those with a layout that can be mixed
PLAIN = "pcm_s16le"  # any number of channels can be averaged
RATES = range(4000, 384_001)  # with fewer samples a second, one byte would become more than a few


class Ended(Exception):
    """The input ended while a reader waited for more."""


@dataclass(frozen=True, slots=True)
class Track:
    """An audio track: its codec, as FFmpeg names it, and what its decoder needs to begin. 0: the codec's data says it.

    A reader yields it before the first packet, and again where another track begins.
    """

    codec: str
    extradata: bytes = b""
    rate: int = 0  # samples a second
    channels: int = 0

    def checked(self) -> Track:
        """Raise BadRequest if its numbers cannot be right."""
        if self.rate and self.rate not in RATES:
            raise BadRequest(f"the audio has {self.rate} samples a second: send {RATES[0]} to {RATES[-1]}")
        channels = ContentType.CHANNELS if self.codec == PLAIN else CHANNELS
        if self.channels and self.channels not in channels:
            raise BadRequest(f"the audio has {self.channels} channels: send {channels[0]} to {channels[-1]}")
        return self


class Source:
    """Bytes that have come and are not taken yet: at most MOST, and one piece."""

    def __init__(self) -> None:
        self.position = 0  # of the next byte, since the beginning
        self.received = self.dropped = 0  # bytes; and how many of them were of no use, as it was known that they are
        self.is_patient = False  # the reader knows how long it has to wait: there is a size, and it may be large
        self.unheard = 0  # bytes that may lie here without a sound, where the reader expects more than usual
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
        """Wait until so many bytes are there. Raises Ended if they will not come, BadRequest if they are too many."""
        if count > most:
            raise BadRequest(f"the stream is damaged, or nothing that we read: a part of it has {count} bytes")
        while len(self._buffer) < count:
            if self._has_ended:
                raise Ended
            yield

    def take(self, count: int) -> Generator[None, None, bytes]:
        """Return the next bytes, so many. Raises as `wait` does."""
        yield from self.wait(count)
        return self._pop(count)

    def take_long(self, count: int, most: int = MOST) -> Generator[None, None, bytes]:
        """Do as `take` does, where so many bytes are to be expected."""
        self.is_patient = True
        yield from self.wait(count, most)
        self.is_patient = False
        return self._pop(count)

    def peek(self, count: int) -> Generator[None, None, bytes]:
        """Return the next bytes and leave them there; fewer, if the input ends before."""
        with suppress(Ended):
            yield from self.wait(count)
        return bytes(self._buffer[:count])

    def look(self) -> memoryview:
        """Return what is there at the moment; to be released before anything is fed or taken."""
        return memoryview(self._buffer)

    def some(self, unit: int, most: int | None = None) -> Generator[None, None, bytes]:
        """Return what is there, as many units of so many bytes as there are: at least one, at most 32 KiB."""
        yield from self.wait(unit)
        most = 2**15 if most is None else min(most, 2**15)
        return self._pop(min(len(self._buffer), most) // unit * unit)

    def skip(self, count: int) -> Generator[None, None, None]:
        """Drop so many bytes as they come."""
        if count > MOST_SKIPPED:
            raise BadRequest(f"the stream is damaged, or nothing that we read: a part of it has {count} bytes")
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
