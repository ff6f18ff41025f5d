"""FLAC without a container. Pure, no I/O.

A frame does not have its length: it ends where the next header begins. Bytes that look like a header by chance have a
wrong checksum or a wrong number. So each frame is decoded one frame late, a quarter of a second with most encoders.
Source: RFC 9639.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from speechbridge.codecs.source import Ended, Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator

    from speechbridge.codecs.source import Source

MAGIC = b"fLaC"
STREAMINFO, LAST = 34, 0x80  # bytes of this block; the flag of the last block of metadata
SYNC = re.compile(rb"\xff[\xf8\xf9]")
HEADER = 16  # most bytes of a frame's header
POLYNOMIAL = 0x07

DAMAGED = "the FLAC stream is damaged: send all of it, from its first byte"


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc << 1) ^ POLYNOMIAL if crc & 0x80 else crc << 1
        table.append(crc & 0xFF)
    return tuple(table)


CRC_8 = _table()


class Frame(NamedTuple):
    """A frame: its number, or that of its first sample; and the most bytes that it can have."""

    number: int
    most: int


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read until another file begins, or the input ends."""
    info = yield from _metadata(source)
    yield Track("flac", info, int.from_bytes(info[10:13], "big") >> 4, (info[12] >> 1 & 7) + 1).checked()
    while True:
        if (yield from source.peek(len(MAGIC))) == MAGIC:
            return
        head = yield from source.peek(HEADER)
        if not head:
            raise Ended
        found = frame(head, info)
        if found is None:
            raise BadRequest(DAMAGED)
        source.expected = found.most
        size = yield from _until_next(source, found, info)
        source.expected = 0
        yield (yield from source.take(size))


def _metadata(source: Source) -> Generator[None, None, bytes]:
    yield from source.take(len(MAGIC))
    info = b""
    while True:
        head = yield from source.take(4)
        size = int.from_bytes(head[1:], "big")
        if not info:
            if head[0] & ~LAST or size != STREAMINFO:
                raise BadRequest(DAMAGED)
            info = yield from source.take(size)
        else:
            yield from source.skip(size)
        if head[0] & LAST:
            return info


def _until_next(source: Source, this: Frame, info: bytes) -> Generator[None, None, int]:
    """Wait for the header of the next frame; return the length of this one in bytes."""
    searched = 2
    while True:
        with source.look() as view:
            data = bytes(view[searched:])
        for found in SYNC.finditer(data):
            header = data[found.start() : found.start() + HEADER]
            if len(header) < HEADER:
                break
            following = frame(header, info)
            if following is not None and following.number > this.number:
                return searched + found.start()
        if (at := data.find(MAGIC)) >= 0:
            return searched + at
        searched += max(0, len(data) - HEADER)
        if searched > this.most:
            raise BadRequest(DAMAGED)
        try:
            yield from source.wait(len(source) + 1)
        except Ended:
            return len(source)


def frame(header: bytes, info: bytes) -> Frame | None:
    """Parse the header of a frame of the stream with this `STREAMINFO`; None if it is not one."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    block, rate, channels, size = header[2] >> 4, header[2] & 15, header[3] >> 4, header[3] >> 1 & 7
    if block == 0 or rate == 15 or channels > 10 or size == 3 or header[3] & 1:
        return None
    length = 8 - (header[4] ^ 0xFF).bit_length()  # as in UTF-8, but up to seven bytes
    if length in (1, 8):
        return None
    number = header[4] & (1 << 7 - length) - 1
    for byte in header[5 : 4 + max(1, length)]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    end = 4 + max(1, length) + {6: 1, 7: 2}.get(block, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if len(header) <= end or _crc(header[:end]) != header[end]:
        return None
    samples = int.from_bytes(info[2:4], "big") * ((info[12] >> 1 & 7) + 1)
    bits = ((info[12] & 1) << 4 | info[13] >> 4) + 2  # stored less one; and the side channel has one bit more
    return Frame(number, 256 + samples * bits // 8)


def _crc(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = CRC_8[crc ^ byte]
    return crc
