"""Recordings that follow each other in a pipe, told apart while they come. Pure, but for waiting for the next bytes.

A pipe has no end until it ends, so `containers.parts_of` cannot look ahead. Here the same boundaries are found on the
way: each byte is passed on as soon as it is known to which recording it belongs. What libsndfile would hear as one is
one. Where a splitter returns before the end, a recording of another kind begins. Kinds that libsndfile cannot read from
a pipe, and unknown ones, are left to whoever can wait for their end.
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

LOOK = 4096  # bytes to tell a kind by: two of the longest frames of MP3
CODECS = b"\x01vorbis", b"OpusHead"  # how the first packet of an Ogg begins that libsndfile reads from a pipe
SIGNATURE = 64  # bytes that tell whether another recording begins
PAGE = 27  # bytes of an Ogg page's header, before the lengths of its segments


class Incoming:
    """Bytes that have come, and those that will. `more` yields them, and waits; it ends with the pipe."""

    def __init__(self, more: Iterator[bytes]) -> None:
        self.bytes = bytearray()
        self._more = more

    def has(self, count: int) -> bool:
        """Wait until so many bytes are there. False: the pipe ends before."""
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
        """Yield so many bytes as they come."""
        while count > 0 and self.has(1):
            taken = self.take(min(count, len(self.bytes)))
            count -= len(taken)
            yield taken

    def until(self, marker: bytes, is_meant: Callable[[], bool]) -> Iterator[bytes]:
        """Yield bytes as they come, up to where the marker stands and is meant, or to the end."""
        while self.has(1):
            found = self.bytes.find(marker)
            if found == 0 and is_meant():
                return
            begun = next((n for n in range(len(marker) - 1, 0, -1) if self.bytes.endswith(marker[:n])), 0)
            count = found if found > 0 else len(marker) if found == 0 else len(self.bytes) - begun
            if not count and not self.has(len(self.bytes) + 1):
                count = len(self.bytes)
            if count:
                yield self.take(count)


def kind_in(incoming: Incoming) -> Callable[[Incoming], Pieces] | None:
    """Return what splits this kind, told by its first bytes; None if it must be read as a file, once it has ended."""
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
    """Whether a WAV begins; then its header has come, if it is not too long."""
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
    if Frame.at(bytes(incoming.bytes[start : start + 4]), 0) is None:  # also where a tag stands before another kind
        return False
    incoming.has(start + LOOK)
    return is_mp3(bytes(incoming.bytes[start:]))


def wavs(incoming: Incoming) -> Pieces:
    while is_wav_begun(incoming):
        head = wav_head(bytes(incoming.bytes))
        if head is None:  # its samples are too far away, and whoever reads it will say so
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
    """Pass over what follows the samples of a WAV. False: these are more samples, and the size was too small."""
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
        meant = lambda: incoming.has(8) and FLAC.match(incoming.bytes) is not None  # noqa: E731
        yield from ((False, piece) for piece in incoming.until(b"fLaC", meant))


def oggs(incoming: Incoming) -> Pieces:
    """Until the next link of a chain: it begins with one page for each stream that it multiplexes."""
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
    """Until a tag, a note of how much follows, another rate, or more frames than were noted."""
    first: Frame | None = None  # of a recording
    noted = frames = 0  # of it; 0 if nobody knows how many there will be
    held: list[bytes] = []  # what may still be too little to be a recording
    is_begun = False
    for found, frame in _frames(incoming):
        if frame is None:
            first = None
            continue
        note = frame.noted(found.ljust(frame.size, b"\0"), 0)
        is_beyond = noted > 0 and frames == noted
        if first is None or note is not None or is_beyond or frame.kind != first.kind:
            first, noted, frames, held, is_begun = frame, note or 0, 0, [], False
        frames += note is None
        held.append(found)
        if noted or frames >= FEW:
            yield not is_begun, b"".join(held)
            held, is_begun = [], True


def _frames(incoming: Incoming) -> Iterator[tuple[bytes, Frame | None]]:
    """Yield each frame; of each tag, and None. Other bytes are passed over."""
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
        else:  # what looks like a frame is one only if another one follows
            incoming.take(1)
            found = incoming.bytes.find(b"\xff")
            incoming.take(found if found >= 0 else len(incoming.bytes))
            is_in_step = False


def _is_followed(incoming: Incoming, frame: Frame) -> bool:
    incoming.has(frame.size + 4)
    return Frame.at(bytes(incoming.bytes[frame.size : frame.size + 4]), 0) is not None
