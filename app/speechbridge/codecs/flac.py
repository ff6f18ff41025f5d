"""FLAC without a container. Pure, no I/O.

A frame does not say how long it is: it ends where the next header begins. What looks like a header by chance has the
wrong checksum or the wrong number. So a frame is known one frame late, a quarter of a second as most encoders have it.
Source: RFC 9639.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from speechbridge.codecs.source import MOST, Ended, Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator

    from speechbridge.codecs.source import Source

MAGIC = b"fLaC"
STREAMINFO, LAST = 34, 0x80  # its bytes; the flag of the last block of metadata
SYNC = re.compile(rb"\xff[\xf8\xf9]")
HEADER = 16  # bytes at most
POLYNOMIAL = 0x07

DAMAGED = "the FLAC stream is damaged: send the whole of it, from its first byte"


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc << 1) ^ POLYNOMIAL if crc & 0x80 else crc << 1
        table.append(crc & 0xFF)
    return tuple(table)


CRC_8 = _table()


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
        number = frame_number(head)
        if number is None:
            raise BadRequest(DAMAGED)
        size = yield from _until_next(source, number)
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


def _until_next(source: Source, number: int) -> Generator[None, None, int]:
    """Return how long the frame with this number is."""
    searched = 2
    while True:
        with source.look() as view:
            data = bytes(view[searched:])
        for found in SYNC.finditer(data):
            header = data[found.start() : found.start() + HEADER]
            if len(header) < HEADER:
                break
            following = frame_number(header)
            if following is not None and following > number:
                return searched + found.start()
        if (at := data.find(MAGIC)) >= 0:
            return searched + at
        searched = max(searched, searched + len(data) - HEADER)
        if len(data) + searched > MOST:
            raise BadRequest(DAMAGED)
        try:
            yield from source.wait(len(source) + 1)
        except Ended:
            return len(source)


def frame_number(header: bytes) -> int | None:
    """Return the number of the frame, or of its first sample, that begins with this header; None for what is none."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xFE != 0xF8:
        return None
    block, rate, channels, size = header[2] >> 4, header[2] & 15, header[3] >> 4, header[3] >> 1 & 7
    if block == 0 or rate == 15 or channels > 10 or size == 3 or header[3] & 1:
        return None
    length = 1 if header[4] < 0x80 else 8 - (header[4] ^ 0xFF).bit_length()  # as in UTF-8, up to seven bytes
    if length == 1 and header[4] >= 0x80:
        return None
    number = header[4] & (0x7F if length == 1 else (1 << (7 - length)) - 1)
    for byte in header[5 : 4 + length]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    end = 4 + length + {6: 1, 7: 2}.get(block, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if len(header) <= end:
        return None
    crc = 0
    for byte in header[:end]:
        crc = CRC_8[crc ^ byte]
    return number if crc == header[end] else None
