"""Sound files that libsndfile does not read correctly: joined ones, and those without their length. Pure.

A file may hold several recordings, one after the other: a chained Ogg, or MP3s or WAVs joined with `cat`. libsndfile
decodes the first recording only, and reports no error. `parts_of` finds the beginning of each, so that each can be read
by itself.

The header of a file may lack its length. A recorder that was killed, or that wrote into a pipe, leaves a size of 0 in a
WAV: libsndfile reads no samples. The length of an MP3 without a Xing header is estimated from its first frame: if the
estimate is too short, the rest is not decoded; if it is too long, the file seems damaged. Such a part gets a header
with the real length.

Sources: RFC 3533 (Ogg), RFC 9639 (FLAC), Microsoft's "Multimedia Programming Interface and Data Specifications 1.0"
(RIFF), ISO 11172-3 and 13818-3 (MP3), id3.org (tags), LAME's documentation of the Xing header.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.audio import WAV_CHUNKS
from speechbridge.cli.sized import length_of
from speechbridge.protocol.mpeg import LAYER_3, read_header
from speechbridge.protocol.signatures import ENOUGH, NAMED, kind_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from mmap import mmap

    Bytes = bytes | mmap

UNKNOWN = 0xFFFFFFFF  # a RIFF size that means: until the end
TOO_MUCH = 0x7FFFF000  # arecord and sox write such a size, or a larger one, if they do not know it
BEYOND = 1024  # bytes after the end of a WAV that are ignored
HEADER = 2**16  # most bytes of a WAV before its samples; a larger embedded picture is an error

FLAC = NAMED["FLAC"]  # "fLaC" and the header of STREAMINFO, which must come first: 34 bytes
OGG_PAGE = re.compile(rb"OggS\x00(.).{20}(.)", re.DOTALL)  # version 0; flags; the number of segments
BEGINS = 2  # the flag of the page with which a logical stream begins

# Bytes of side information after an MP3 frame's header, by the frame's samples and whether it is mono.
SIDE = {(1152, False): 32, (1152, True): 17, (576, False): 17, (576, True): 9}
TAG_HEAD = 16  # bytes that are enough to find the end of a tag
FEW = 4  # frames, a tenth of a second: fewer are damage, or the Xing header is a little wrong; they are no recording


@dataclass(frozen=True, slots=True)
class Part:
    """One recording within a file, from byte `start` to byte `end`. `head` must be read before these bytes."""

    start: int
    end: int
    head: bytes = b""


def parts_of(data: Bytes) -> list[Part]:
    """Find the recordings in a file, at least one. A file of an unknown kind counts as one recording."""
    return list(_parts(data)) or [Part(0, len(data))]


def _parts(data: Bytes) -> Iterator[Part]:
    """Yield recordings, which may be of different kinds, until something follows that is no recording."""
    start: int | None = 0
    while start is not None and start < len(data):
        if is_wav(data, start):
            start = yield from _wavs(data, start)
        elif FLAC.match(data, start):
            start = yield from _between(start, _flacs(data, start))
        elif OGG_PAGE.match(data, start):
            start = yield from _between(start, _oggs(data, start))
        elif is_mp3(data, start):
            start = yield from _mp3s(data, start)
        elif (length := length_of(data, start)) is not None:
            size, head = length
            yield Part(start + len(head), start + size, head)
            start += size
        else:
            if start and kind_of(bytes(data[start : start + ENOUGH])):  # libsndfile cannot read it, and will report it
                yield Part(start, len(data))
            return


def begins(data: Bytes, at: int) -> bool:
    """Tell whether a recording begins here whose kind can be recognized by its first bytes."""
    known = FLAC.match(data, at) or OGG_PAGE.match(data, at) or is_wav(data, at)
    return bool(known) or length_of(data, at) is not None


def _between(start: int, begins_at: Generator[int, None, int]) -> Generator[Part, None, int]:
    """Turn the places where recordings begin, and the end of the last one, into parts."""
    while True:
        try:
            end = next(begins_at)
        except StopIteration as stop:
            yield Part(start, stop.value)
            return int(stop.value)
        if end > start:
            yield Part(start, end)
            start = end


# ---- WAV -------------------------------------------------------------------------------------------------------------


def is_wav(data: Bytes, at: int = 0) -> bool:
    return data[at : at + 4] == b"RIFF" and data[at + 8 : at + 12] == b"WAVE"


def wav_head(data: Bytes, at: int = 0) -> bytes | None:
    """Return the header of a WAV, up to its samples; None if it is incomplete or too long."""
    place = at + 12
    while place + 8 <= min(len(data), at + HEADER):
        name, size = struct.unpack("<4sI", data[place : place + 8])
        if name == b"data":
            return bytes(data[at : place + 8])
        place += 8 + size + size % 2  # chunks begin at even offsets
    return None


def with_size(head: bytes, samples: int) -> bytes:
    """Return the header with another number of bytes of samples, or with UNKNOWN."""
    whole = min(UNKNOWN, len(head) - 8 + samples)
    return head[:4] + struct.pack("<I", whole) + head[8:-4] + struct.pack("<I", min(UNKNOWN, samples))


def size_is_unknown(head: bytes) -> bool:
    """Tell whether the program that wrote this header of a WAV did not know how many samples would follow."""
    (whole,) = struct.unpack("<I", head[4:8])
    (samples,) = struct.unpack("<I", head[-4:])
    is_followed = len(head) - 8 < whole < TOO_MUCH  # by another chunk: so the size of 0 is right
    return samples >= TOO_MUCH or (samples == 0 and not is_followed)


def _wavs(data: Bytes, start: int) -> Generator[Part, None, int]:
    while is_wav(data, start):
        head = wav_head(data, start)
        if head is None or not size_is_unknown(head):
            (size,) = struct.unpack("<I", data[start + 4 : start + 8])
            end = min(len(data), start + 8 + size)
            end += size % 2 if is_wav(data, end + 1) else 0  # not every program writes the last byte of an odd size
            if head is None or not _samples_follow(data, end):
                yield Part(start, end)
            else:  # the program wrote the size of the first seconds, and never updated it
                end = _next_wav(data, start + len(head))
                yield Part(start + len(head), end, with_size(head, end - start - len(head)))
        else:
            end = _next_wav(data, start + len(head))
            yield Part(start + len(head), end, with_size(head, end - start - len(head)))
        start = end
    return start


def _samples_follow(data: Bytes, end: int) -> bool:
    """Tell whether samples follow the end that a WAV's header gives; not a tag, a chunk or another recording."""
    name = bytes(data[end : end + 4])
    return len(data) - end > BEYOND and not (name in WAV_CHUNKS or name[:3] == b"TAG" or begins(data, end))


def _next_wav(data: Bytes, start: int) -> int:
    while (start := data.find(b"RIFF", start)) >= 0:
        if is_wav(data, start) and data[start + 12 : start + 16] == b"fmt ":
            return start
        start += 4
    return len(data)


# ---- FLAC and Ogg ----------------------------------------------------------------------------------------------------


def _flacs(data: Bytes, start: int) -> Generator[int, None, int]:
    while start >= 0:
        if FLAC.match(data, start):
            yield start
        start = data.find(b"fLaC", start + 4)
    return len(data)


def _oggs(data: Bytes, start: int) -> Generator[int, None, int]:
    """Yield where each link of a chain begins. A link begins with one page for each stream that it multiplexes."""
    beginning = -1  # the end of the last page with the flag BEGINS
    while 0 <= start < len(data):
        page = OGG_PAGE.match(data, start)
        if page is None:  # damage: continue at the next page, as libsndfile does
            if begins(data, start):
                return start
            start = data.find(b"OggS", start + 1)
            continue
        lengths = data[page.end() : page.end() + page[2][0]]
        end = page.end() + len(lengths) + sum(lengths)
        if page[1][0] & BEGINS:
            if start != beginning:
                yield start
            beginning = end
        start = end
    return len(data)


# ---- MP3 -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of an MP3 frame: its `size` in bytes with the header, and its number of `samples` and their `rate`.

    The first frame of a recording may hold no sound, but the number of frames that follow: a Xing header. The same
    with a constant bit rate has the name "Info". "VBRI" is another format of it, which is not read here.
    """

    bits: int
    size: int
    rate: int
    is_mono: bool
    samples: int

    @classmethod
    def read(cls, bits: int) -> Frame | None:
        """Parse a header of 32 bits; None if it is not one."""
        header = read_header(bits)
        if header is None or header.layer != LAYER_3:
            return None
        return cls(bits, header.size, header.rate, header.is_mono, header.samples)

    @classmethod
    def at(cls, data: Bytes, place: int) -> Frame | None:
        return cls.read(int.from_bytes(data[place : place + 4], "big"))

    @property
    def kind(self) -> tuple[int, bool]:
        """The properties that do not change within one recording."""
        return self.rate, self.is_mono

    @property
    def side(self) -> int:
        """The bytes of the header and the side information. A Xing header begins after them."""
        return 4 + SIDE[self.samples, self.is_mono]

    def announced(self, data: Bytes, place: int) -> int | None:
        """Return how many frames this frame announces, 0 if it lacks the number; None if it has no Xing header."""
        side = place + self.side
        if data[side : side + 4] in (b"Xing", b"Info"):
            return int.from_bytes(data[side + 8 : side + 12], "big") if data[side + 7] & 1 else 0
        return 0 if data[place + 36 : place + 40] == b"VBRI" else None

    def xing_frame(self, frames: int, size: int) -> bytes:
        """Return a first frame with a Xing header, for so many frames and bytes of this kind."""
        for bitrate in range(1, 15):  # take the smallest frame with enough room; without padding, without a checksum
            first = Frame.read(self.bits & ~(15 << 12 | 1 << 9) | bitrate << 12 | 1 << 16)
            xing = b"Xing" + struct.pack(">III", 3, frames, size)
            if first is not None and first.size >= self.side + len(xing):
                return (first.bits.to_bytes(4, "big") + bytes(self.side - 4) + xing).ljust(first.size, b"\0")
        return b""


def is_mp3(data: Bytes, at: int = 0) -> bool:
    if data[at : at + 3] == b"ID3":
        return True
    first = Frame.at(data, at)
    return first is not None and Frame.at(data, at + first.size) is not None


class _Mp3:
    """A recording whose frames are being counted. A decoder stops after the frames that its Xing header announces."""

    def __init__(self, start: int, first: Frame) -> None:
        self.first = first
        self._start = start
        self._announced: int | None = None
        self._frames = 0
        self._beyond: int | None = None  # the place of the first frame after the announced ones

    def add(self, place: int, announced: int | None) -> None:
        if announced is not None:
            self._announced = announced
            return
        if self._announced and self._frames == self._announced:
            self._beyond = place
        self._frames += 1

    def parts(self, end: int) -> Iterator[Part]:
        if not self._announced:
            if self._frames >= FEW:
                yield self._with_xing_frame(self._start, end, self._frames)
        elif self._beyond is None or self._frames - self._announced < FEW:
            yield Part(self._start, end)
        else:
            yield Part(self._start, self._beyond)
            yield self._with_xing_frame(self._beyond, end, self._frames - self._announced)

    def _with_xing_frame(self, start: int, end: int, frames: int) -> Part:
        return Part(start, end, self.first.xing_frame(frames, end - start))


def _mp3s(data: Bytes, start: int) -> Generator[Part, None, int]:
    """Yield what a decoder reads as one recording: it ends at a tag, a Xing header, or another sample rate."""
    recording: _Mp3 | None = None
    frames = _frames(data, start)
    while True:
        try:
            place, frame = next(frames)
        except StopIteration as stop:
            end = int(stop.value)
            break
        announced = None if frame is None else frame.announced(data, place)
        if recording is not None and (frame is None or announced is not None or frame.kind != recording.first.kind):
            yield from recording.parts(place)
            recording = None
        if frame is not None:
            recording = recording or _Mp3(place, frame)
            recording.add(place, announced)
    if recording is not None:
        yield from recording.parts(end)
    return end


def _frames(data: Bytes, place: int) -> Generator[tuple[int, Frame | None], None, int]:
    """Yield (place, frame) for each frame, and (place, None) for each tag. Skip all other bytes."""
    is_in_step = False  # a frame or a tag ended here
    while place < len(data):
        end = after_tag(data, place)
        frame = Frame.at(data, place)
        if end is not None:
            yield place, None
            place = end
        elif frame is not None and (is_in_step or Frame.at(data, place + frame.size) is not None):
            yield place, frame
            place += frame.size
        elif is_in_step and begins(data, place):
            return place
        else:  # bytes that look like a frame are one only if another frame follows
            found = data.find(b"\xff", place + 1)
            place, is_in_step = len(data) if found < 0 else found, False
            continue
        is_in_step = True
    return len(data)


def after_tag(data: Bytes, place: int) -> int | None:
    """Return the end of the ID3 or APE tag that begins here; None if none begins."""
    head = data[place : place + TAG_HEAD]
    if head[:3] == b"ID3" and len(head) >= 10 and all(byte < 0x80 for byte in head[6:10]):
        size = sum(byte << 7 * (3 - nth) for nth, byte in enumerate(head[6:10]))
        return place + 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 16:
        return place + 32 + int(struct.unpack("<I", head[12:16])[0])
    return place + 128 if head[:3] == b"TAG" else None
