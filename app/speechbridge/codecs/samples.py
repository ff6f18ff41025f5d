"""Samples without a container: the formats that GStreamer names, mu-law and A-law. Pure, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.codecs.source import Ended

if TYPE_CHECKING:
    from collections.abc import Generator

    from speechbridge.codecs.source import Source

PADDED = "S24_32LE"  # 24 bits in four bytes
FORMATS = {
    "S8": ("pcm_s8", 1),
    "U8": ("pcm_u8", 1),
    "S16LE": ("pcm_s16le", 2),
    "S16BE": ("pcm_s16be", 2),
    "U16LE": ("pcm_u16le", 2),
    "U16BE": ("pcm_u16be", 2),
    "S24LE": ("pcm_s24le", 3),
    "S24BE": ("pcm_s24be", 3),
    "U24LE": ("pcm_u24le", 3),
    "U24BE": ("pcm_u24be", 3),
    PADDED: ("pcm_s24le", 4),
    "S32LE": ("pcm_s32le", 4),
    "S32BE": ("pcm_s32be", 4),
    "U32LE": ("pcm_u32le", 4),
    "U32BE": ("pcm_u32be", 4),
    "F32LE": ("pcm_f32le", 4),
    "F32BE": ("pcm_f32be", 4),
    "F64LE": ("pcm_f64le", 8),
    "F64BE": ("pcm_f64be", 8),
    "MULAW": ("pcm_mulaw", 1),
    "ALAW": ("pcm_alaw", 1),
}
"""For each name of GStreamer's: FFmpeg's codec, and the bytes of a sample."""


def samples(source: Source, unit: int, size: int | None = None, form: str = "") -> Generator[bytes | None, None, None]:
    """Read samples in units of `unit` bytes: `size` bytes of them, or all. An incomplete last unit is dropped."""
    left = size
    while left is None or left > 0:
        try:
            piece = yield from source.some(unit, left)
        except Ended:
            if left is None:
                return
            raise
        left = None if left is None else left - len(piece)
        if form == PADDED:
            whole = bytearray(piece)
            del whole[3::4]
            piece = bytes(whole)
        yield piece
