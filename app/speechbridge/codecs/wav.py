"""WAV: PCM of 8 to 64 bits, floats, mu-law and A-law. Pure, no I/O.

Writers that cannot go back leave a size that says nothing; then the samples go on to the end. What follows a size that
is known may be another WAV: some recorders put a whole one into each message. Sources: Microsoft's "Multimedia
Programming Interface and Data Specifications 1.0", the documentation of WAVEFORMATEXTENSIBLE, EBU Tech 3306 (RF64).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from speechbridge.codecs.samples import samples
from speechbridge.codecs.source import Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator

    from speechbridge.codecs.source import Source

MAGICS = (b"RIFF", b"RF64", b"BW64")
UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000)  # what writers to a pipe leave
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
CURE = "send PCM of 8 to 32 bits, floats, mu-law or A-law"


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read one WAV, until something else begins, or the input ends."""
    riff, _, wave = struct.unpack("<4sI4s", (yield from source.take(12)))
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
        raise BadRequest(f"the WAV file does not say its format before its samples: {CURE}")
    is_open = size in UNKNOWN_SIZES or riff != b"RIFF"
    yield from samples(source, block, None if is_open else size // block * block)
    yield from source.skip(size % block + size % 2)
    while (name := (yield from source.peek(4))) not in MAGICS:
        if len(name) < 4 or not name.strip(b"\0"):  # some pad the end
            yield from source.skip(len(name) or 1)
            continue
        _, size = struct.unpack("<4sI", (yield from source.take(8)))
        if not name.isascii():
            raise BadRequest(f"the WAV file is damaged after its samples: {CURE}")
        yield from source.skip(size + size % 2)


def _format(body: bytes) -> tuple[Track, int]:
    """Return a track, and the bytes of one sample of all its channels."""
    if len(body) < 16:
        raise BadRequest(f"the WAV file's format is cut short: {CURE}")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", body)
    if tag == EXTENSIBLE and len(body) >= 26:
        tag = int.from_bytes(body[24:26], "little")  # where the subformat begins
    codec = CODECS.get((tag, bits))
    if codec is None:
        raise BadRequest(f"the WAV file holds format {tag:#06x} with {bits} bits: {CURE}")
    if not channels or block != bits // 8 * channels:
        raise BadRequest(f"the WAV file is damaged: {channels} channels of {bits} bits are not {block} bytes: {CURE}")
    return Track(codec, b"", rate or -1, channels).checked(), block
