"""Sound files whose header has their size: AIFF, AU, CAF, RF64, W64 and RIFF in big-endian. Pure.

`length_of` finds where a file ends, so that another recording may follow. A recorder that was killed, or that wrote
into a pipe, did not know the size: it wrote all zeros or all ones. libsndfile takes these for an empty or a damaged
file, so such a file gets a header with its real size.

Sources: EBU Tech 3306 (RF64), Apple's "Core Audio Format Specification 1.0" and "AIFF 1.3", Sony's "Wave64 File
Format", Sun's audio(5) (AU), Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFX).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    Bytes = bytes | mmap
    Length = tuple[int, bytes]  # the file's size in bytes; a header that replaces as many bytes at its beginning

CHUNKS = 64  # at most, before the samples
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_CHUNK = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # follows the four letters of a chunk's name
CAF_UNKNOWN = 2**64 - 1
CAF_CHUNKS = frozenset(b"desc data chan kuki pakt info free edct mark regn strg midi ovvw peak inst umid uuid".split())


def length_of(data: Bytes, start: int) -> Length | None:
    """Return the length of the file that begins at `start`, and a corrected header or b""; None if no file begins."""
    begun = bytes(data[start : start + 16])
    find = next((find for letters, find in KINDS.items() if begun.startswith(letters)), None)
    if find is None:
        return None
    size, head = find(data, start)
    return size, head if len(head) <= size else b""  # a truncated header is left as it is


def _plain(rest: int, size: int) -> Length:
    """Return the size that the header has; if it is not possible, all of the rest."""
    return (size if 0 < size <= rest else rest), b""


def _iff(data: Bytes, start: int) -> Length:
    (size,) = struct.unpack(">I", data[start + 4 : start + 8].ljust(4, b"\0"))
    return _plain(len(data) - start, 8 + size + size % 2 if size else 0)


def _au(data: Bytes, start: int) -> Length:
    rest = len(data) - start
    header, size = struct.unpack(">II", data[start + 4 : start + 12].ljust(8, b"\0"))
    if 0 < size <= rest - header:
        return header + size, b""
    real = min(max(0, rest - header), 2**32 - 2)  # all ones mean that the size is not known
    return rest, bytes(data[start : start + 8]) + struct.pack(">I", real)


def _rf64(data: Bytes, start: int) -> Length:
    """Find the length of an RF64. Its sizes of 64 bits are in its first chunk, `ds64`."""
    rest, place = len(data) - start, 12
    head = bytearray(data[start : start + place])
    for _ in range(CHUNKS):
        name, size = struct.unpack("<4sI", data[start + place : start + place + 8].ljust(8, b"\0"))
        if name == b"data":
            head += data[start + place : start + place + 8]
            whole, samples = struct.unpack("<QQ", head[20:36].ljust(16, b"\0"))
            if head[12:16] != b"ds64" or len(head) <= 8 + whole <= rest:
                return _plain(rest, 8 + whole)
            head[20:36] = struct.pack("<QQ", rest - 8, rest - len(head))
            return (rest, bytes(head)) if not 0 < samples <= rest - len(head) else (rest, b"")
        head += data[start + place : start + place + 8 + size + size % 2]
        place += 8 + size + size % 2
    return rest, b""


def _w64(data: Bytes, start: int) -> Length:
    rest, place = len(data) - start, 40
    (whole,) = struct.unpack("<Q", data[start + 16 : start + 24].ljust(8, b"\0"))
    if place <= whole <= rest:
        return whole, b""
    for _ in range(CHUNKS):
        name = bytes(data[start + place : start + place + 16])
        (size,) = struct.unpack("<Q", data[start + place + 16 : start + place + 24].ljust(8, b"\0"))
        if name == b"data" + W64_CHUNK:
            head = bytearray(data[start : start + place + 24])
            head[16:24] = struct.pack("<Q", rest)
            head[-8:] = struct.pack("<Q", rest - place)
            return rest, bytes(head)
        place += max(24, size + -size % 8)  # chunks are aligned to eight bytes
        if place > rest:
            break
    return rest, b""


def _caf(data: Bytes, start: int) -> Length:
    rest, place = len(data) - start, 8
    for _ in range(CHUNKS):
        name, size = struct.unpack(">4sQ", data[start + place : start + place + 12].ljust(12, b"\0"))
        if name not in CAF_CHUNKS:
            return min(place, rest), b""
        if name == b"data" and (size == CAF_UNKNOWN or place + 12 + size > rest):
            return rest, bytes(data[start : start + place + 4]) + struct.pack(">Q", max(0, rest - place - 12))
        place += 12 + size
        if place >= rest:
            break
    return rest, b""


KINDS: dict[bytes, Callable[[Bytes, int], Length]] = {
    b"FORM": _iff,
    b"RIFX": _iff,
    b".snd": _au,
    b"caff": _caf,
    b"RF64": _rf64,
    b"BW64": _rf64,
    W64_RIFF: _w64,
}
