"""Ogg, with Opus, Vorbis, FLAC or Speex in it. Pure, no I/O.

Ogg consists of pages, each with parts of the packets of one logical stream. The first audio stream is decoded, and the
first one of each further group of streams (in a chained file). Sources: RFC 3533 (Ogg), RFC 7845 (Opus), the Vorbis I
specification, RFC 9639 section 10.1 (FLAC), the Speex manual.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from speechbridge.codecs.source import MOST, Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from speechbridge.codecs.source import Source

MAGIC = b"OggS"
CONTINUED, FIRST = 1, 2  # flags of a page: it begins within a packet; it is the first of its stream
PAGE = struct.Struct("<4sBBqIIIB")
STREAMINFO = 34  # bytes

DAMAGED = "the Ogg stream is damaged: send all of it, from its first byte"


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read until something else begins, or the input ends."""
    stream: _Stream | None = None
    in_headers = False  # among the first pages of a group of streams
    while True:
        head = yield from source.peek(4)
        if len(head) == 4 and head != MAGIC and stream is not None:
            return
        magic, version, flags, _, serial, _, _, count = PAGE.unpack((yield from source.take(PAGE.size)))
        if magic != MAGIC or version:
            raise BadRequest(DAMAGED)
        lacing = yield from source.take(count)
        if flags & FIRST:
            if not in_headers:
                stream, in_headers = None, True
            if stream is None and (codec := _codec((yield from source.peek(min(8, sum(lacing)))))):
                stream = _Stream(serial, codec)
        else:
            in_headers = False
        if stream is None and not flags & FIRST:
            raise BadRequest("the Ogg stream has no known audio: send Opus, Vorbis or FLAC, from its first byte")
        if stream is not None and serial == stream.serial:
            yield from stream.read(source, lacing, is_continued=bool(flags & CONTINUED))
        else:
            yield from source.skip(sum(lacing))


def _codec(first: bytes) -> str:
    names = {b"OpusHead": "opus", b"\x01vorbis": "vorbis", b"\x7fFLAC": "flac", b"Speex   ": "speex"}
    return next((name for magic, name in names.items() if first.startswith(magic)), "")


class _Stream:
    """The logical stream that is decoded."""

    def __init__(self, serial: int, codec: str) -> None:
        self.serial = serial
        self._codec = codec
        self._headers: list[bytes] = []
        self._needed = {"opus": 2, "vorbis": 3, "speex": 2, "flac": 1}[codec]
        self._packet = bytearray()  # incomplete
        self._is_lost = False  # the beginning of the current packet is missing

    def read(self, source: Source, lacing: bytes, *, is_continued: bool) -> Generator[Track | bytes | None, None, None]:
        """Yield the packets of a page as they arrive: a page may hold a second of audio, or more."""
        if not is_continued:
            self._packet.clear()
        self._is_lost = is_continued and not self._packet
        size = 0
        for part in lacing:
            size += part
            if part == 255:
                continue
            self._packet += yield from source.take_long(size)
            size = 0
            if not self._is_lost:
                yield from self._take(bytes(self._packet))
            self._packet.clear()
            self._is_lost = False
        self._packet += yield from source.take_long(size)
        if len(self._packet) > MOST:
            raise BadRequest(DAMAGED)

    def _take(self, packet: bytes) -> Iterator[Track | bytes]:
        if len(self._headers) < self._needed:
            self._headers.append(packet)
            if len(self._headers) == self._needed:
                yield self._track().checked()
        elif self._codec != "flac" or packet[:1] == b"\xff":  # skips FLAC's further headers
            yield packet

    def _track(self) -> Track:
        first = self._headers[0]
        if self._codec == "opus" and len(first) >= 19:
            return Track("opus", first, 48000, first[9])
        if self._codec == "vorbis" and len(first) >= 30:
            sizes = bytes(part for header in self._headers[:2] for part in _lacing(len(header)))
            rate = int.from_bytes(first[12:16], "little")
            return Track("vorbis", b"\x02" + sizes + b"".join(self._headers), rate, first[11])
        if self._codec == "flac" and first[9:13] == b"fLaC" and len(first) >= 17 + STREAMINFO:
            return Track("flac", first[17 : 17 + STREAMINFO])
        if self._codec == "speex" and len(first) >= 80:
            return Track("speex", first, *struct.unpack_from("<I8xI", first, 36))
        raise BadRequest(DAMAGED)


def _lacing(size: int) -> Iterator[int]:
    yield from (255 for _ in range(size // 255))
    yield size % 255
