"""Streams of MPEG audio frames (MP3) and of AAC in ADTS: no container, a header before each frame. Pure, no I/O.

A stream may begin anywhere, and may have tags between its frames. So reading begins at a header that is followed by
another one, and begins anew where the next header is missing. Source for the tags: id3.org.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from speechbridge.codecs.source import Track
from speechbridge.protocol.mpeg import AAC, LAYER_1, LAYER_2, LAYER_3, Frame, adts_frame, mpeg_frame
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from speechbridge.codecs.source import Source

HEADER = 6  # bytes of a frame that are parsed
SYNC = re.compile(rb"\xff[\xe0-\xff]")
JUNK = 2**14  # bytes that may be skipped in search of a frame
ID3, ID3_HEADER = b"ID3", 10

CODECS = {AAC: "aac", LAYER_1: "mp1float", LAYER_2: "mp2float", LAYER_3: "mp3float"}


def frame(header: bytes) -> Frame | None:
    """Parse a header of either kind; None if it is not one."""
    return adts_frame(header) or mpeg_frame(header)


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read frames until the input ends. Raises BadRequest if there are none for long."""
    playing: tuple[int, int] | None = None  # the parameters that all frames of the current track share
    in_step = False  # a frame has just ended here
    while True:
        header = yield from source.peek(HEADER)
        found = frame(header)
        if found is not None and in_step and playing == found[1:]:
            yield (yield from source.take(found.size))
            continue
        in_step = yield from _find(source)
        size, shared, layer = frame((yield from source.peek(HEADER))) or (0, 0, AAC)
        if in_step and playing != (shared, layer):
            playing = shared, layer
            yield Track(CODECS[layer])
        if in_step:
            yield (yield from source.take(size))


def _find(source: Source) -> Generator[None, None, bool]:
    """Drop bytes until two frames follow each other; at the end of the input, one is enough."""
    dropped = 0
    while dropped <= JUNK:
        head = yield from source.peek(ID3_HEADER)
        if head.startswith(ID3) and len(head) == ID3_HEADER:
            yield from source.skip(ID3_HEADER + _id3_size(head))
            continue
        if (first := frame(head)) is not None:
            follows = (yield from source.peek(first.size + HEADER))[first.size :]
            second = frame(follows)
            if not follows or (second is not None and second[1:] == first[1:]):
                return True
        skipped = yield from _to_next(source)
        dropped += skipped
    raise BadRequest("the stream holds no MP3 or AAC frames, or it is damaged")


def _to_next(source: Source) -> Generator[None, None, int]:
    """Drop bytes, at least one, up to where a frame or a tag may begin; return how many."""
    yield from source.wait(2)
    with source.look() as view:
        ahead = bytes(view[1 : JUNK + 1])
    found = [at for at in (_at(SYNC.search, ahead), ahead.find(ID3)) if at >= 0]
    count = 1 + (min(found) if found else len(ahead) - 1)
    yield from source.take(count)
    return count


def _at(search: Callable[[bytes], re.Match[bytes] | None], data: bytes) -> int:
    found = search(data)
    return found.start() if found else -1


def _id3_size(head: bytes) -> int:
    """Return the size of a tag, which is stored in seven bits of each byte; with its footer, if it has one."""
    size = 0
    for part in head[6:10]:
        size = size << 7 | part & 0x7F
    return size + (ID3_HEADER if head[5] & 0x10 else 0)
