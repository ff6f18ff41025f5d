"""MP4, M4A and QuickTime: fragmented, as browsers record it, or with the index before the sound. Pure, no I/O.

The index (`moov`) says which track is audio, and how to decode it. In a fragment, `moof` gives the places of the
packets in the `mdat` that follows; without fragments the index gives them. Sources: ISO 14496-12 (boxes), 14496-1 and
-14 (`esds`), the Opus and FLAC mappings ("Encapsulation of Opus in ISO Base Media File Format", "of FLAC in ISOBMFF"),
Apple's QuickTime File Format.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speechbridge.codecs.source import Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from speechbridge.codecs.source import Source

FIRST = (b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"free", b"skip", b"wide", b"mdat", b"pdin")
ENTERED = (b"mdia", b"minf", b"stbl")
AAC, AAC_MPEG2, MP3 = 0x40, (0x66, 0x67, 0x68), (0x69, 0x6B)  # object types of `esds`
CODECS = {
    b"sowt": "pcm_s16le",
    b"twos": "pcm_s16be",
    b"ulaw": "pcm_mulaw",
    b"alaw": "pcm_alaw",
    b".mp3": "mp3float",
}

DAMAGED = "the MP4 stream is damaged: send all of it, from its first byte"
INDEX_LAST = "the MP4 file has its index after its sound: write it fragmented, or with -movflags +faststart"
DEPTH = 8  # of nested boxes
INDEX = 2**23  # most bytes of the index: ten hours of AAC
PIECE = 480  # samples
PACKETS = 2**18  # in one fragment: more than an hour


@dataclass(slots=True)
class Index:
    """The description of the audio track in `moov`."""

    number: int
    track: Track
    tables: dict[bytes, bytes]
    defaults: dict[str, int] = field(default_factory=dict)

    @property
    def is_fragmented(self) -> bool:
        return not any(self.tables.get(b"stsz", b"")[8:12])


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read until something else begins, or the input ends."""
    index: Index | None = None
    places: Iterator[tuple[int, int]] = iter(())
    while True:
        begun = source.position
        name, size = yield from _box(source)
        if name == b"moov":
            index = _index((yield from source.take_long(_known(size), INDEX)))
            places = _whole(index)
            yield index.track
        elif name == b"moof" and index is not None:
            places = iter(_fragment((yield from source.take(_known(size))), index, begun))
        elif name == b"mdat":
            if index is None:
                raise BadRequest(INDEX_LAST)
            yield from _packets(source, places, None if size is None else source.position + size)
        elif not (name.isascii() and name.decode().isprintable()) and index is not None:
            raise BadRequest(DAMAGED)
        else:
            yield from source.skip(_known(size))


def _box(source: Source) -> Generator[None, None, tuple[bytes, int | None]]:
    """Return the name of a box, and the size of its content; None if it extends to the end of the stream."""
    size, name = struct.unpack(">I4s", (yield from source.take(8)))
    if size == 1:
        (size,) = struct.unpack(">Q", (yield from source.take(8)))
        size -= 8
    elif size == 0:
        return name, None
    if size < 8:
        raise BadRequest(DAMAGED)
    return name, size - 8


def _known(size: int | None) -> int:
    if size is None:
        raise BadRequest(DAMAGED)
    return size


def _packets(source: Source, places: Iterator[tuple[int, int]], end: int | None) -> Generator[bytes | None, None, None]:
    """Read the packets at these places, up to the end of the box; drop the bytes between them."""
    for place, size in places:
        if place < source.position or (end is not None and place + size > end):
            raise BadRequest(DAMAGED)
        yield from _drop(source, place - source.position)
        yield (yield from source.take(size))
        if source.position == end:
            return
    yield from _drop(source, None if end is None else end - source.position)


def _drop(source: Source, count: int | None) -> Generator[None, None, None]:
    """Drop so many bytes of other tracks, which may be more than `skip` allows; None: all up to the end."""
    while count is None or count:
        dropped = len((yield from source.some(1, count)))
        count = None if count is None else count - dropped


def _boxes(data: bytes, place: int = 0) -> Iterator[tuple[bytes, bytes]]:
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        head = 8
        if size == 1 and place + 16 <= len(data):
            (size,), head = struct.unpack_from(">Q", data, place + 8), 16
        end = len(data) if size == 0 else place + size
        if 0 < size < head or end > len(data):
            raise BadRequest(DAMAGED)
        yield name, data[place + head : end]
        place = end


def _found(data: bytes, entered: tuple[bytes, ...], depth: int = DEPTH) -> dict[bytes, bytes]:
    """Return the boxes in `data` and within boxes named in `entered`, by name; of each name the first."""
    if not depth:
        raise BadRequest(DAMAGED)
    found: dict[bytes, bytes] = {}
    for name, body in _boxes(data):
        for key, value in (_found(body, entered, depth - 1) if name in entered else {name: body}).items():
            found.setdefault(key, value)
    return found


def _index(moov: bytes) -> Index:
    extensions = b"".join(body for name, body in _boxes(moov) if name == b"mvex")
    for name, body in _boxes(moov):
        tables = _found(body, ENTERED) if name == b"trak" else {}
        if tables.get(b"hdlr", b"")[8:12] != b"soun":
            continue
        head = tables.get(b"tkhd", b"")
        number = _integer(head, 20 if head[:1] == b"\1" else 12)
        index = Index(number, _track(tables.get(b"stsd", b"")).checked(), tables)
        for extension, trex in _boxes(extensions):
            if extension == b"trex" and _integer(trex, 4) == number:
                index.defaults = {"size": _integer(trex, 16)}
        return index
    raise BadRequest("the MP4 stream has no audio track")


def _integer(data: bytes, place: int, size: int = 4) -> int:
    if place + size > len(data):
        raise BadRequest(DAMAGED)
    return int.from_bytes(data[place : place + size], "big")


# ---- how to decode it ------------------------------------------------------------------------------------------------


def _track(stsd: bytes) -> Track:
    for name, entry in _boxes(stsd, 8):
        version, channels, rate = _integer(entry, 8, 2), _integer(entry, 16, 2), _integer(entry, 24, 2)
        if version == 2 and len(entry) >= 52:  # of QuickTime, for rates above 16 bits
            return Track(_known_codec(name), b"", int(struct.unpack_from(">d", entry, 32)[0]), _integer(entry, 40))
        boxes = _found(entry[28 + (16 if version == 1 else 0) :], (b"wave",))
        if name == b"mp4a":
            return _from_esds(boxes.get(b"esds", b"")[4:], rate, channels)
        if name == b"Opus" and b"dOps" in boxes:
            return Track("opus", _opus_head(boxes[b"dOps"]), 48000, channels)
        if name == b"fLaC" and b"dfLa" in boxes:
            return Track("flac", boxes[b"dfLa"][8:42])
        if name == b"alac" and b"alac" in boxes:
            body = boxes[b"alac"]
            return Track("alac", struct.pack(">I4s", len(body) + 8, b"alac") + body)
        return Track(_known_codec(name), b"", rate, channels)
    raise BadRequest(DAMAGED)


def _known_codec(name: bytes) -> str:
    if name not in CODECS:
        raise BadRequest(f"the MP4 stream's audio is {name.decode('latin-1')!r}: send AAC or Opus")
    return CODECS[name]


def _opus_head(body: bytes) -> bytes:
    """Return the header in the form of Ogg: the same fields in another byte order."""
    if len(body) < 11:
        raise BadRequest(DAMAGED)
    _, channels, skipped, rate, gain = struct.unpack_from(">BBHIh", body)
    return b"OpusHead" + struct.pack("<BBHIh", 1, channels, skipped, rate, gain) + body[10:]


def _from_esds(body: bytes, rate: int, channels: int) -> Track:
    """Read the nested descriptors: 3 describes the stream, 4 the decoder, 5 holds the codec's own data."""
    found: dict[int, bytes] = {}
    place = 0
    while place < len(body):
        tag, size, place = body[place], 0, place + 1
        for _ in range(4):
            byte = _integer(body, place, 1)
            size, place = size << 7 | byte & 0x7F, place + 1
            if not byte & 0x80:
                break
        found.setdefault(tag, body[place : place + size])
        # The first two have fields of their own before nested descriptors. In files, all flags of the stream's are 0.
        place += {3: 3, 4: 13}.get(tag, size)
    kind = _integer(found.get(4, b""), 0, 1)
    if kind in MP3:
        return Track("mp3float")
    if kind != AAC and kind not in AAC_MPEG2:
        raise BadRequest(f"the MP4 stream's audio is of type {kind:#x}: send AAC or Opus")
    return Track("aac", found.get(5, b""), rate, channels if channels in range(1, 9) else 0)


# ---- where the packets are -------------------------------------------------------------------------------------------


def _fragment(moof: bytes, index: Index, begun: int) -> list[tuple[int, int]]:
    """Return the places of a fragment's packets, in bytes from the beginning of the stream, and their sizes."""
    places: list[tuple[int, int]] = []
    for name, traf in _boxes(moof):
        if name != b"traf":
            continue
        boxes = list(_boxes(traf))
        head = next((body for found, body in boxes if found == b"tfhd"), b"")
        if _integer(head, 4) != index.number:
            continue
        base, size = _defaults(head, index, begun)
        at = base
        for found, run in boxes:
            if found == b"trun":
                at = _run(run, base, at, size, places)
    return sorted(places)


def _defaults(head: bytes, index: Index, begun: int) -> tuple[int, int]:
    """Return the base of a fragment's offsets, and the default size of its packets."""
    flags, place = _integer(head, 0) & 0xFFFFFF, 8
    base, size = begun, index.defaults.get("size", 0)
    for flag, width in ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4)):  # base offset, description, duration, size
        if flags & flag:
            value = _integer(head, place, width)
            base, size = (value, size) if flag == 0x1 else (base, value) if flag == 0x10 else (base, size)
            place += width
    return base, size


def _run(run: bytes, base: int, at: int, size: int, places: list[tuple[int, int]]) -> int:
    """Add the places and sizes of the packets of one run; return the end of the run."""
    flags, count, place = _integer(run, 0) & 0xFFFFFF, _integer(run, 4), 8
    if flags & 0x1:
        offset: int = struct.unpack(">i", run[place : place + 4].rjust(4, b"\0"))[0]
        at, place = base + offset, place + 4
    if flags & 0x4:
        place += 4
    widths = [4 for flag in (0x100, 0x200, 0x400, 0x800) if flags & flag]
    before = 4 if flags & 0x100 else 0
    if count + len(places) > PACKETS or (flags & 0x200 and place + count * sum(widths) > len(run)):
        raise BadRequest(DAMAGED)
    for _ in range(count):
        own = _integer(run, place + before) if flags & 0x200 else size
        places.append((at, own))
        at, place = at + own, place + sum(widths)
    return at


def _whole(index: Index) -> Iterator[tuple[int, int]]:
    """Yield the places of the packets of a file without fragments, and their sizes."""
    if index.is_fragmented:
        return
    sizes, runs = index.tables.get(b"stsz", b""), index.tables.get(b"stsc", b"")
    wide = b"co64" in index.tables
    chunks, width = (index.tables[b"co64"], 8) if wide else (index.tables.get(b"stco", b""), 4)
    same, count = _integer(sizes, 4), _integer(sizes, 8)
    pcm = {"pcm_s16le": 2, "pcm_s16be": 2, "pcm_mulaw": 1, "pcm_alaw": 1}.get(index.track.codec, 0)
    number = entry = per_chunk = 0
    for chunk in range(_integer(chunks, 4)):
        while entry < _integer(runs, 4) and _integer(runs, 8 + 12 * entry) <= chunk + 1:
            per_chunk = _integer(runs, 12 + 12 * entry)
            entry += 1
        at = _integer(chunks, 8 + width * chunk, width)
        taken = min(per_chunk, count - number)
        if pcm:
            yield from _pieces(at, taken, pcm * (index.track.channels or 1))
        for _ in range(0 if pcm else taken):
            size = same or _integer(sizes, 12 + 4 * number)
            yield at, size
            at, number = at + size, number + 1
        number += taken if pcm else 0


def _pieces(at: int, count: int, size: int) -> Iterator[tuple[int, int]]:
    """Split a chunk of samples, so that the first are decoded before the last have arrived."""
    for start in range(0, count, PIECE):
        yield at + start * size, min(PIECE, count - start) * size
