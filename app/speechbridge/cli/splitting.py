"""Splits a pipe into the recordings that follow each other in it, while the bytes arrive.

It does no I/O itself, but waits for an iterator of bytes.

`containers.parts_of` needs the whole file, and a pipe may not end for hours. This module finds the same boundaries
while bytes arrive: each byte is passed on as soon as it is known to which recording it belongs. What libsndfile decodes
as one recording is one recording. A splitter that returns before the end of the pipe has found a recording of another
kind. Kinds that libsndfile cannot read from a pipe, and unknown ones, are not split: the caller reads the pipe to its
end first.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from speechbridge.audio import WAV_CHUNKS
from speechbridge.cli.containers import (
    BEGINS,
    FEW,
    FLAC,
    HEADER,
    OGG_PAGE,
    TAG_HEAD,
    UNKNOWN,
    Frame,
    after_tag,
    begins,
    is_mp3,
    is_wav,
    size_is_unknown,
    wav_head,
    with_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Pieces = Iterator[tuple[bool, bytes]]  # whether a recording begins here; bytes of it

LOOK = 4096  # bytes that are enough to recognize an MP3: two of the longest frames
CODECS = b"\x01vorbis", b"OpusHead"  # the first packet of an Ogg file begins so, if libsndfile reads it from a pipe
SIGNATURE = 64  # bytes that are enough to recognize the beginning of another recording
PAGE = 27  # bytes of an Ogg page's header, before the lengths of its segments


class Incoming:
    """A buffer over a pipe. `more` yields the pipe's bytes, blocks until some arrive, and ends with the pipe."""

    def __init__(self, more: Iterator[bytes]) -> None:
        self.bytes = bytearray()
        self._more = more

    def has(self, count: int) -> bool:
        """Wait until so many bytes have arrived. False: the pipe ended before."""
        while len(self.bytes) < count:
            piece = next(self._more, None)
            if piece is None:
                return False
            self.bytes += piece
        return True

    def take(self, count: int) -> bytes:
        """Return so many bytes, or fewer if the pipe ends before."""
        self.has(count)
        taken = bytes(self.bytes[:count])
        del self.bytes[:count]
        return taken

    def passing(self, count: int) -> Iterator[bytes]:
        """Take and yield so many bytes as they arrive."""
        while count > 0 and self.has(1):
            taken = self.take(min(count, len(self.bytes)))
            count -= len(taken)
            yield taken

    def until(self, marker: bytes, is_real: Callable[[], bool]) -> Iterator[bytes]:
        """Take and yield bytes as they arrive, up to a real marker or the end.

        `is_real` is called with the marker at the beginning of the buffer; the same bytes may occur within samples.
        """
        while self.has(1):
            found = self.bytes.find(marker)
            if found == 0 and is_real():
                return
            begun = next((n for n in range(len(marker) - 1, 0, -1) if self.bytes.endswith(marker[:n])), 0)
            count = found if found > 0 else len(marker) if found == 0 else len(self.bytes) - begun
            if not count and not self.has(len(self.bytes) + 1):
                count = len(self.bytes)
            if count:
                yield self.take(count)


def kind_in(incoming: Incoming) -> Callable[[Incoming], Pieces] | None:
    """Return the splitter for the recording that begins here; None if it must be read as a file, once the pipe ends."""
    incoming.has(4)
    if is_wav_begun(incoming):
        return wavs if wav_head(bytes(incoming.bytes)) is not None else None
    incoming.has(12)
    if FLAC.match(incoming.bytes):
        return flacs
    if incoming.has(PAGE + 1) and OGG_PAGE.match(incoming.bytes):
        packet = PAGE + incoming.bytes[PAGE - 1]
        incoming.has(packet + 8)
        return oggs if incoming.bytes[packet : packet + 8].startswith(CODECS) else None
    return mp3s if _is_mp3_begun(incoming) else None


def is_wav_begun(incoming: Incoming) -> bool:
    """Tell whether a WAV begins. If so, wait until its header has arrived, unless that is longer than HEADER."""
    if not (incoming.has(12) and is_wav(bytes(incoming.bytes[:12]))):
        return False
    while (
        wav_head(bytes(incoming.bytes)) is None
        and len(incoming.bytes) < HEADER
        and incoming.has(len(incoming.bytes) + 1)
    ):
        pass
    return True


def _is_mp3_begun(incoming: Incoming) -> bool:
    start = after_tag(bytes(incoming.bytes[:TAG_HEAD]), 0) or 0 if incoming.has(TAG_HEAD) else 0
    incoming.has(start + 4)
    if Frame.at(bytes(incoming.bytes[start : start + 4]), 0) is None:  # a tag may precede another kind, too
        return False
    incoming.has(start + LOOK)
    return is_mp3(bytes(incoming.bytes[start:]))


def wavs(incoming: Incoming) -> Pieces:
    while is_wav_begun(incoming):
        head = wav_head(bytes(incoming.bytes))
        if head is None:  # its header is too long: libsndfile will report the error
            yield True, incoming.take(12)
            yield from ((False, piece) for piece in incoming.passing(2**62))
            return
        incoming.take(len(head))
        if not size_is_unknown(head):
            size = int.from_bytes(head[-4:], "little")
            yield True, head
            yield from ((False, piece) for piece in incoming.passing(size))
            if _ends_here(incoming, size, 8 + int.from_bytes(head[4:8], "little") - len(head) - size):
                continue
        yield True, with_size(head, UNKNOWN)
        yield from ((False, piece) for piece in incoming.until(b"RIFF", lambda: _is_next_wav(incoming)))


def _ends_here(incoming: Incoming, size: int, after: int) -> bool:
    """Skip what follows the samples of a WAV. False: more samples follow, and the size in the header was too small."""
    if size % 2 and incoming.has(1) and not is_wav(bytes(incoming.bytes)):
        incoming.take(1)  # chunks begin at even offsets
    while incoming.has(8) and not _begins_other(incoming) and not is_wav_begun(incoming):
        name, body = struct.unpack("<4sI", incoming.bytes[:8])
        if name not in WAV_CHUNKS and after < 8:
            return False
        after -= 8 + body + body % 2
        for _ in incoming.passing(8 + body + body % 2):
            pass
    return True


def _begins_other(incoming: Incoming) -> bool:
    incoming.has(SIGNATURE)
    return begins(bytes(incoming.bytes[:SIGNATURE]), 0)


def _is_next_wav(incoming: Incoming) -> bool:
    return incoming.has(16) and is_wav(bytes(incoming.bytes[:12])) and incoming.bytes[12:16] == b"fmt "


def flacs(incoming: Incoming) -> Pieces:
    while incoming.has(1):
        yield True, incoming.take(8)
        is_flac = lambda: incoming.has(8) and FLAC.match(incoming.bytes) is not None  # noqa: E731
        yield from ((False, piece) for piece in incoming.until(b"fLaC", is_flac))


def oggs(incoming: Incoming) -> Pieces:
    """Split a chained Ogg at its links. A link begins with one page for each stream that it multiplexes."""
    is_beginning = False
    while incoming.has(1):
        if not (incoming.has(PAGE + 1) and OGG_PAGE.match(incoming.bytes)):  # damage, or the end
            if _begins_other(incoming):
                return
            yield False, incoming.take(1)
            yield from ((False, piece) for piece in incoming.until(b"OggS", lambda: True))
            continue
        segments = incoming.bytes[PAGE - 1]
        incoming.has(PAGE + segments)
        is_first_page = bool(incoming.bytes[5] & BEGINS)
        is_new = is_first_page and not is_beginning
        is_beginning = is_first_page
        for piece in incoming.passing(PAGE + segments + sum(incoming.bytes[PAGE : PAGE + segments])):
            yield is_new, piece
            is_new = False


def mp3s(incoming: Incoming) -> Pieces:
    """Split MP3s: at a tag, a Xing header, another sample rate, and after the frames that a Xing header announces."""
    first: Frame | None = None  # of the current recording
    announced = frames = 0  # frames of its Xing header, and those seen; `announced` is 0 if there is no such header
    held: list[bytes] = []  # frames that are still too few to be a recording
    is_begun = False
    for found, frame in _frames(incoming):
        if frame is None:
            first = None
            continue
        count = frame.announced(found.ljust(frame.size, b"\0"), 0)
        is_beyond = announced > 0 and frames == announced
        if first is None or count is not None or is_beyond or frame.kind != first.kind:
            first, announced, frames, held, is_begun = frame, count or 0, 0, [], False
        frames += count is None
        held.append(found)
        if announced or frames >= FEW:
            yield not is_begun, b"".join(held)
            held, is_begun = [], True


def _frames(incoming: Incoming) -> Iterator[tuple[bytes, Frame | None]]:
    """Take the MP3 apart: yield (bytes, frame) for each frame, and (b"", None) for each tag. Skip all other bytes."""
    is_in_step = False  # a frame or a tag ended here
    while incoming.has(1):
        incoming.has(TAG_HEAD)
        end = after_tag(bytes(incoming.bytes[:TAG_HEAD]), 0)
        frame = Frame.at(bytes(incoming.bytes[:4]), 0)
        if end is not None:
            for _ in incoming.passing(end):
                pass
            yield b"", None
            is_in_step = True
        elif frame is not None and (is_in_step or _is_followed(incoming, frame)):
            yield incoming.take(frame.size), frame
            is_in_step = True
        elif is_in_step and _begins_other(incoming):
            return
        else:  # bytes that look like a frame are one only if another frame follows
            incoming.take(1)
            found = incoming.bytes.find(b"\xff")
            incoming.take(found if found >= 0 else len(incoming.bytes))
            is_in_step = False


def _is_followed(incoming: Incoming, frame: Frame) -> bool:
    incoming.has(frame.size + 4)
    return Frame.at(bytes(incoming.bytes[frame.size : frame.size + 4]), 0) is not None
