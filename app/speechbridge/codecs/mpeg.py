"""Streams of MPEG audio frames (MP3) and of AAC in ADTS: no container, a header before each frame. Pure, no I/O.

A stream may have been cut into anywhere, and tags may stand between its frames. So reading begins where one header is
followed by another, and begins again where a frame has no header. Sources: ISO 11172-3 and 13818-3 (MPEG audio), ISO
13818-7 (ADTS), id3.org.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from speechbridge.codecs.source import Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from speechbridge.codecs.source import Source

HEADER = 6  # bytes of a frame that are looked at
SYNC = re.compile(rb"\xff[\xe0-\xff]")
JUNK = 2**14  # bytes without a frame, before it is no such stream
ID3, ID3_HEADER = b"ID3", 10

# Kilobits a second by a header's bits, and samples a frame. Keys: MPEG-1 or not, and the layer's bits.
LAYER_3, LAYER_2, LAYER_1, MPEG_1 = 1, 2, 3, 3
LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
KILOBITS = {
    (True, LAYER_1): tuple(range(0, 449, 32)),
    (True, LAYER_2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, LAYER_3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, LAYER_1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, LAYER_2): LOW,
    (False, LAYER_3): LOW,
}
SAMPLES = {(True, LAYER_1): 384, (False, LAYER_1): 384, (True, LAYER_2): 1152, (False, LAYER_2): 1152} | {
    (True, LAYER_3): 1152,
    (False, LAYER_3): 576,
}
RATES = (44100, 48000, 32000)  # of MPEG-1
DIVISOR = {3: 1, 2: 2, 0: 4}  # of these rates, by the version's bits
CODECS = {LAYER_1: "mp1float", LAYER_2: "mp2float", LAYER_3: "mp3float"}

Header = tuple[int, int, str]  # the frame's bytes, what all frames of a stream share, and the codec


def mpeg_frame(header: bytes) -> Header | None:
    """Take the header of a frame of MPEG audio apart."""
    bits = int.from_bytes(header[:4], "big")
    version, layer, bitrate, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version not in DIVISOR or layer == 0 or bitrate in (0, 15) or rate == 3 or bits & 3 == 2:
        return None
    kind = version == MPEG_1, layer
    slot = 4 if layer == LAYER_1 else 1
    hertz = RATES[rate] // DIVISOR[version]
    size = (SAMPLES[kind] // 8 // slot * 1000 * KILOBITS[kind][bitrate] // hertz + (bits >> 9 & 1)) * slot
    return size, bits & 0xFFFE0C00, CODECS[layer]


def adts_frame(header: bytes) -> Header | None:
    """Take the header of a frame of ADTS apart."""
    bits = int.from_bytes(header[:6], "big")
    size, rate = bits >> 5 & 0x1FFF, bits >> 26 & 0xF
    if bits >> 36 != 0xFFF or bits >> 33 & 3 or rate > 12 or size < 8:
        return None
    return size, bits >> 22 & ~0xF7, "aac"  # what it says of the channels and of the copyright may differ


def frame(header: bytes) -> Header | None:
    """Take either header apart; None for what is none."""
    return adts_frame(header) or mpeg_frame(header)


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read frames until the input ends. Raises BadRequest where there are none for long."""
    playing: tuple[int, str] | None = None  # what the frames of the stream that is read share
    in_step = False  # the last frame ended where we are
    while True:
        header = yield from source.peek(HEADER)
        found = frame(header)
        if found is not None and in_step and playing == found[1:]:
            yield (yield from source.take(found[0]))
            continue
        in_step = yield from _find(source)
        size, shared, codec = frame((yield from source.peek(HEADER))) or (0, 0, "")
        if in_step and playing != (shared, codec):
            playing = shared, codec
            yield Track(codec)
        if in_step:
            yield (yield from source.take(size))


def _find(source: Source) -> Generator[None, None, bool]:
    """Drop what comes before two frames in a row. At the end of the input one will do."""
    dropped = 0
    while dropped <= JUNK:
        head = yield from source.peek(ID3_HEADER)
        if head.startswith(ID3) and len(head) == ID3_HEADER:
            yield from source.skip(ID3_HEADER + _id3_size(head))
            continue
        if (first := frame(head)) is not None:
            follows = (yield from source.peek(first[0] + HEADER))[first[0] :]
            second = frame(follows)
            if not follows or (second is not None and second[1:] == first[1:]):
                return True
        skipped = yield from _to_next(source)
        dropped += skipped
    raise BadRequest("the stream holds no MP3 or AAC frames, or it is damaged")


def _to_next(source: Source) -> Generator[None, None, int]:
    """Drop a byte, and those up to where a frame or a tag may begin; return how many."""
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
    """Return the size of a tag, of which each byte holds seven bits; with a footer, if it says so."""
    size = 0
    for part in head[6:10]:
        size = size << 7 | part & 0x7F
    return size + (ID3_HEADER if head[5] & 0x10 else 0)
