"""Sound files that libsndfile does not read as they are: joined ones, and those that do not know their length. Pure.

A file may hold several recordings, one after the other: chained Ogg, MP3s or WAVs put together by `cat`. libsndfile
hears the first and says that this was all. `parts_of` finds where each begins; each can then be read on its own.

A file may not know its length. A recorder that was killed, or that wrote into a pipe, leaves a size of 0 in a WAV:
libsndfile takes that for no samples. The length of an MP3 is guessed from its first frame if no note in it tells: where
that is too short, the rest is not heard; where it is too long, the file seems damaged. Such a part gets a head that
tells the truth.

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
TOO_MUCH = 0x7FFFF000  # arecord and sox write a number from here on. A WAV that is as large is read to its end, too
BEYOND = 1024  # bytes that may follow a WAV and mean nothing
HEADER = 2**16  # bytes of a WAV before its samples, at most; an embedded picture is not looked behind

FLAC = NAMED["FLAC"]  # and the header of STREAMINFO, which must come first: 34 bytes
OGG_PAGE = re.compile(rb"OggS\x00(.).{20}(.)", re.DOTALL)  # version 0; flags; the number of segments
BEGINS = 2  # the flag of a page with which a logical stream begins

# Of MP3, by the samples of a frame and whether it is mono.
SIDE = {(1152, False): 32, (1152, True): 17, (576, False): 17, (576, True): 9}  # bytes after the header
TAG_HEAD = 16  # bytes that tell where a tag ends
FEW = 4  # frames, a tenth of a second: what is shorter is no recording, but damage, or a note that is a little wrong


@dataclass(frozen=True, slots=True)
class Part:
    """One recording within a file, from byte `start` to byte `end`; `head` is to be read before these."""

    start: int
    end: int
    head: bytes = b""


def parts_of(data: Bytes) -> list[Part]:
    """Find the recordings in a file, one at least. What is not of a known kind is one."""
    return list(_parts(data)) or [Part(0, len(data))]


def _parts(data: Bytes) -> Iterator[Part]:
    """Yield recordings, which may be of different kinds. Where one ends, another begins, or what is no sound."""
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
            if start and kind_of(bytes(data[start : start + ENOUGH])):  # libsndfile does not read it, and will say so
                yield Part(start, len(data))
            return


def begins(data: Bytes, at: int) -> bool:
    """Whether a recording begins here, of a kind that is known at once."""
    known = FLAC.match(data, at) or OGG_PAGE.match(data, at) or is_wav(data, at)
    return bool(known) or length_of(data, at) is not None


def _between(start: int, begins_at: Generator[int, None, int]) -> Generator[Part, None, int]:
    """Make recordings of where each begins, and of where the last one ends."""
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
    """Return a WAV's bytes before its samples; None if they are not all there, or too many."""
    place = at + 12
    while place + 8 <= min(len(data), at + HEADER):
        name, size = struct.unpack("<4sI", data[place : place + 8])
        if name == b"data":
            return bytes(data[at : place + 8])
        place += 8 + size + size % 2  # chunks begin at even offsets
    return None


def with_size(head: bytes, samples: int) -> bytes:
    """Return the head of a WAV that has so many bytes of samples, or UNKNOWN."""
    whole = min(UNKNOWN, len(head) - 8 + samples)
    return head[:4] + struct.pack("<I", whole) + head[8:-4] + struct.pack("<I", min(UNKNOWN, samples))


def size_is_unknown(head: bytes) -> bool:
    """Tell whether whoever wrote this head of a WAV did not know how many samples would follow."""
    (whole,) = struct.unpack("<I", head[4:8])
    (samples,) = struct.unpack("<I", head[-4:])
    is_followed = len(head) - 8 < whole < TOO_MUCH  # by another chunk: there are no samples, and that is meant
    return samples >= TOO_MUCH or (samples == 0 and not is_followed)


def _wavs(data: Bytes, start: int) -> Generator[Part, None, int]:
    while is_wav(data, start):
        head = wav_head(data, start)
        if head is None or not size_is_unknown(head):
            (size,) = struct.unpack("<I", data[start + 4 : start + 8])
            end = min(len(data), start + 8 + size)
            end += size % 2 if is_wav(data, end + 1) else 0  # not every program writes the last byte of an odd size
            if head is None or not _goes_on(data, end):
                yield Part(start, end)
            else:  # the size is that of the first seconds, and was never updated
                end = _next_wav(data, start + len(head))
                yield Part(start + len(head), end, with_size(head, end - start - len(head)))
        else:
            end = _next_wav(data, start + len(head))
            yield Part(start + len(head), end, with_size(head, end - start - len(head)))
        start = end
    return start


def _goes_on(data: Bytes, end: int) -> bool:
    """Whether samples follow where a WAV ends, as it says; not a tag, a chunk, another WAV, or a few odd bytes."""
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
    beginning = -1  # where the pages end with which the streams of a link begin
    while 0 <= start < len(data):
        page = OGG_PAGE.match(data, start)
        if page is None:  # damage: libsndfile, too, goes on at the next page
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
    """The header of an MP3 frame: `size` in bytes, header included, and how many `samples` it holds at which `rate`."""

    bits: int
    size: int
    rate: int
    is_mono: bool
    samples: int

    @classmethod
    def read(cls, bits: int) -> Frame | None:
        """Take a header of 32 bits apart; None if these are none."""
        header = read_header(bits)
        if header is None or header.layer != LAYER_3:
            return None
        return cls(bits, header.size, header.rate, header.is_mono, header.samples)

    @classmethod
    def at(cls, data: Bytes, place: int) -> Frame | None:
        return cls.read(int.from_bytes(data[place : place + 4], "big"))

    @property
    def kind(self) -> tuple[int, bool]:
        """What does not change within one recording."""
        return self.rate, self.is_mono

    @property
    def side(self) -> int:
        """How many bytes the header takes, and what comes before the sound: a note begins there."""
        return 4 + SIDE[self.samples, self.is_mono]

    def noted(self, data: Bytes, place: int) -> int | None:
        """Return how many frames follow, if this first one notes that in the place of sound; 0 if not how many."""
        side = place + self.side
        if data[side : side + 4] in (b"Xing", b"Info"):
            return int.from_bytes(data[side + 8 : side + 12], "big") if data[side + 7] & 1 else 0
        return 0 if data[place + 36 : place + 40] == b"VBRI" else None

    def note(self, frames: int, size: int) -> bytes:
        """Return a first frame for such frames: it notes how many there are, and of how many bytes."""
        for bitrate in range(1, 15):  # the smallest that has room; without padding, without a checksum
            first = Frame.read(self.bits & ~(15 << 12 | 1 << 9) | bitrate << 12 | 1 << 16)
            note = b"Xing" + struct.pack(">III", 3, frames, size)
            if first is not None and first.size >= self.side + len(note):
                return (first.bits.to_bytes(4, "big") + bytes(self.side - 4) + note).ljust(first.size, b"\0")
        return b""


def is_mp3(data: Bytes, at: int = 0) -> bool:
    if data[at : at + 3] == b"ID3":
        return True
    first = Frame.at(data, at)
    return first is not None and Frame.at(data, at + first.size) is not None


class _Mp3:
    """A recording whose frames are being counted. A note says how many a decoder hears, whatever comes after them."""

    def __init__(self, start: int, first: Frame) -> None:
        self.first = first
        self._start = start
        self._noted: int | None = None
        self._frames = 0
        self._beyond: int | None = None  # where the first frame is that is more than was noted

    def add(self, place: int, noted: int | None) -> None:
        if noted is not None:
            self._noted = noted
            return
        if self._noted and self._frames == self._noted:
            self._beyond = place
        self._frames += 1

    def parts(self, end: int) -> Iterator[Part]:
        if not self._noted:
            if self._frames >= FEW:
                yield self._without_note(self._start, end, self._frames)
        elif self._beyond is None or self._frames - self._noted < FEW:
            yield Part(self._start, end)
        else:
            yield Part(self._start, self._beyond)
            yield self._without_note(self._beyond, end, self._frames - self._noted)

    def _without_note(self, start: int, end: int, frames: int) -> Part:
        return Part(start, end, self.first.note(frames, end - start))


def _mp3s(data: Bytes, start: int) -> Generator[Part, None, int]:
    """Yield what one decoder hears as one: until a tag, a note of how much follows, or another rate."""
    recording: _Mp3 | None = None
    frames = _frames(data, start)
    while True:
        try:
            place, frame = next(frames)
        except StopIteration as stop:
            end = int(stop.value)
            break
        noted = None if frame is None else frame.noted(data, place)
        if recording is not None and (frame is None or noted is not None or frame.kind != recording.first.kind):
            yield from recording.parts(place)
            recording = None
        if frame is not None:
            recording = recording or _Mp3(place, frame)
            recording.add(place, noted)
    if recording is not None:
        yield from recording.parts(end)
    return end


def _frames(data: Bytes, place: int) -> Generator[tuple[int, Frame | None], None, int]:
    """Yield the place of each frame, and the frame; of each tag, and None. Other bytes are passed over."""
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
        else:  # what looks like a frame is one only if another one follows
            found = data.find(b"\xff", place + 1)
            place, is_in_step = len(data) if found < 0 else found, False
            continue
        is_in_step = True
    return len(data)


def after_tag(data: Bytes, place: int) -> int | None:
    """Return where an ID3 or APE tag ends that begins here; None if none does."""
    head = data[place : place + TAG_HEAD]
    if head[:3] == b"ID3" and len(head) >= 10 and all(byte < 0x80 for byte in head[6:10]):
        size = sum(byte << 7 * (3 - nth) for nth, byte in enumerate(head[6:10]))
        return place + 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 16:
        return place + 32 + int(struct.unpack("<I", head[12:16])[0])
    return place + 128 if head[:3] == b"TAG" else None
