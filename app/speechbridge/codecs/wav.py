"""WAV: PCM of 8 to 64 bits, floats, mu-law and A-law. Pure, no I/O.

The size in the header may be wrong: a writer that cannot seek leaves a placeholder, or the size of the first message.
So the samples extend to the beginning of something else: a chunk of the same file, or another file, as some recorders
put a whole file into each message. Sources: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0",
the documentation of WAVEFORMATEXTENSIBLE, EBU Tech 3306 (RF64).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from speechbridge.codecs.source import Ended, Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator

    from speechbridge.codecs.source import Source

MAGICS = (b"RIFF", b"RF64", b"BW64")
UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000)  # placeholders of programs that write to a pipe
PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
CODECS = {
    (PCM, 8): "pcm_u8",
    (PCM, 16): "pcm_s16le",
    (PCM, 24): "pcm_s24le",
    (PCM, 32): "pcm_s32le",
    (FLOAT, 32): "pcm_f32le",
    (FLOAT, 64): "pcm_f64le",
    (A_LAW, 8): "pcm_alaw",
    (MU_LAW, 8): "pcm_mulaw",
}
NEXT_FILE = re.compile(b"RIFF....WAVEfmt ", re.DOTALL)  # the dots are a size; in samples this occurs once in 2**96
NEXT_FILE_BYTES = 16
CHUNKS = frozenset(
    {b"LIST", b"id3 ", b"ID3 ", b"bext", b"fact", b"cue ", b"smpl", b"PEAK", b"JUNK", b"iXML", b"afsp", b"_PMX"}
)  # known chunks, which may follow the samples even beyond the file's size
CHUNK_LIKE = re.compile(rb"[\x20-\x7e]{4}")  # the name of any other chunk, only within the file's size
PIECE = 2**15  # bytes that are searched at once

CURE = "send PCM of 8 to 32 bits, floats, mu-law or A-law"


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read one WAV, until another file begins or the input ends."""
    begun = source.position
    riff, length, wave = struct.unpack("<4sI4s", (yield from source.take(12)))
    if riff not in MAGICS or wave != b"WAVE":
        raise BadRequest(f"this is not a WAV file: {CURE}")
    block = 0
    while True:
        name, size = struct.unpack("<4sI", (yield from source.take(8)))
        if name == b"data":
            break
        if name == b"fmt ":
            track, block = _format((yield from source.take(size + size % 2)))
            yield track
        else:
            yield from source.skip(size + size % 2)
    if not block:
        raise BadRequest(f"the WAV file has no format before its samples: {CURE}")
    is_known = size not in UNKNOWN_SIZES and riff == MAGICS[0]
    yield from _samples(source, block, size if is_known else None)
    while (yield from _is_chunk(source, size, begun + 8 + length)):
        _, size = struct.unpack("<4sI", (yield from source.take(8)))
        yield from source.skip(size + size % 2)
    if (yield from source.peek(4)) not in MAGICS:
        yield from _samples(source, block, None)


def _is_chunk(source: Source, size: int, end: int) -> Generator[None, None, bool]:
    """Tell whether another chunk of the file follows, which ends at `end`. If so, skip the padding before it.

    Chunks begin at even offsets: after samples of an odd `size`, there is one byte of padding.
    """
    head = yield from source.peek(5)
    if head[:4] in MAGICS:
        return False
    for start in (size % 2, 0):
        name = head[start : start + 4]
        if name in CHUNKS or (CHUNK_LIKE.fullmatch(name) and end - source.position >= 8):
            yield from source.skip(start)
            return True
    return False


def _samples(source: Source, unit: int, left: int | None) -> Generator[bytes | None, None, None]:
    """Read so many bytes of samples, or all before another file."""
    is_all = False
    while left is None or left >= unit:
        with source.look() as view:
            data = bytes(view[: PIECE if left is None else min(PIECE, left + NEXT_FILE_BYTES)])
        safe = len(data) if is_all else _safe(data)
        if left is not None:
            safe = min(safe, left)
        if whole := safe // unit * unit:
            left = None if left is None else left - whole
            yield (yield from source.take(whole))
        elif is_all:
            raise Ended
        elif NEXT_FILE.match(data, safe):
            yield from source.skip(safe)
            return
        else:
            is_all = yield from _has_ended(source)
    yield from source.skip(left or 0)


def _safe(data: bytes) -> int:
    """Return how many of these bytes are certainly samples, and not the beginning of another file."""
    start = data.find(MAGICS[0])
    if start < 0:
        return len(data) - next((count for count in (3, 2, 1) if data.endswith(MAGICS[0][:count])), 0)
    if NEXT_FILE.match(data, start) or len(data) < start + NEXT_FILE_BYTES:
        return start
    return start + len(MAGICS[0])


def _has_ended(source: Source) -> Generator[None, None, bool]:
    """Wait for another byte; return whether the input has ended instead."""
    count = len(source) + 1
    return len((yield from source.peek(count))) < count


def _format(body: bytes) -> tuple[Track, int]:
    """Return a track, and the bytes of one sample of all its channels."""
    if len(body) < 16:
        raise BadRequest(f"the WAV file's format is truncated: {CURE}")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", body)
    if tag == EXTENSIBLE and len(body) >= 26:
        tag = int.from_bytes(body[24:26], "little")  # where the subformat begins
    codec = CODECS.get((tag, bits))
    if codec is None:
        raise BadRequest(f"the WAV file holds format {tag:#06x} with {bits} bits: {CURE}")
    if not channels or block != bits // 8 * channels:
        raise BadRequest(f"the WAV file is damaged: {channels} channels of {bits} bits are not {block} bytes: {CURE}")
    return Track(codec, b"", rate or -1, channels).checked(), block
