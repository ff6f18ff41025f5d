"""WebM and Matroska. Pure, no I/O.

An element is an id, a size and a payload, which may consist of elements. Of segments, clusters and groups of blocks,
only the id and the size are read; then their payload is read as if it followed them. So their sizes do not matter: live
recordings do not have them. Sources: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from speechbridge.codecs.source import Track
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from speechbridge.codecs.source import Source

MAGIC = b"\x1a\x45\xdf\xa3"
EBML, SEGMENT, CLUSTER, TRACKS = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1654AE6B
BLOCK_GROUP, BLOCK, SIMPLE_BLOCK = 0xA0, 0xA1, 0xA3
ENTERED = (SEGMENT, CLUSTER, BLOCK_GROUP)
SKIPPED = {
    0x114D9B74,  # SeekHead
    0x1549A966,  # Info
    0x1C53BB6B,  # Cues
    0x1254C367,  # Tags
    0x1043A770,  # Chapters
    0x1941A469,  # Attachments
    0xEC,  # Void
    0xBF,  # CRC-32
    0xE7,  # Timestamp, of a cluster
    0x5854,  # SilentTracks
    0xA7,  # Position
    0xAB,  # PrevSize
    0xAF,  # EncryptedBlock
    0x9B,  # BlockDuration, of a group
    0xFB,  # ReferenceBlock
    0xFA,  # ReferencePriority
    0xFD,  # ReferenceVirtual
    0xA4,  # CodecState
    0x75A1,  # BlockAdditions
    0x75A2,  # DiscardPadding
    0x8E,  # Slices
}
ENTRY, NUMBER, KIND, CODEC, PRIVATE, AUDIO, ENCODINGS = 0xAE, 0xD7, 0x83, 0x86, 0x63A2, 0xE1, 0x6D80
FREQUENCY, CHANNEL_COUNT, BIT_DEPTH = 0xB5, 0x9F, 0x6264
AUDIO_KIND = 2
XIPH, FIXED, LACED = 0x02, 0x04, 0x06  # flags of a block with several packets: how their sizes are stored

CODECS = {
    "A_OPUS": "opus",
    "A_VORBIS": "vorbis",
    "A_AAC": "aac",
    "A_FLAC": "flac",
    "A_MPEG/L3": "mp3float",
    "A_MPEG/L2": "mp2float",
    "A_ALAC": "alac",
}
PCM = {  # by codec and bits
    **{("A_PCM/INT/LIT", bits): f"pcm_s{bits}le" for bits in (16, 24, 32)},
    **{("A_PCM/INT/BIG", bits): f"pcm_s{bits}be" for bits in (16, 24, 32)},
    **{("A_PCM/FLOAT/IEEE", bits): f"pcm_f{bits}le" for bits in (32, 64)},
    ("A_PCM/INT/LIT", 8): "pcm_u8",
    ("A_PCM/INT/BIG", 8): "pcm_u8",
}

MOST_BLOCK = 2**18  # bytes: 0.6 s of floats in stereo at 48 kHz

DAMAGED = "the WebM stream is damaged: record it again, or send all of it, from its first byte"


def read(source: Source) -> Generator[Track | bytes | None, None, None]:
    """Read until another file begins, or the input ends."""
    number = None  # of the decoded track
    has_begun = False
    while True:
        if (yield from source.peek(4)) == MAGIC and has_begun:
            return
        name, size = yield from _element(source)
        if name == EBML and not has_begun:
            has_begun = True
            yield from source.skip(_known(size))
        elif name in ENTERED:
            continue
        elif name == TRACKS:
            number, track = _choose((yield from source.take(_known(size))))
            yield track
        elif name in (BLOCK, SIMPLE_BLOCK) and number is not None and _known(size) <= MOST_BLOCK:
            of, block = _split((yield from source.take(_known(size))))
            if of == number:
                yield from _packets(block)
        elif name in SKIPPED:
            yield from source.skip(_known(size))
        else:
            raise BadRequest(DAMAGED)


def _element(source: Source) -> Generator[None, None, tuple[int, int | None]]:
    first = (yield from source.peek(1))[:1] or (yield from source.take(1))
    length = 9 - first[0].bit_length()
    if length > 4:
        raise BadRequest(DAMAGED)
    name = int.from_bytes((yield from source.take(length)), "big")
    first = yield from source.take(1)
    length = 9 - first[0].bit_length()
    if length > 8:
        raise BadRequest(DAMAGED)
    rest = yield from source.take(length - 1)
    return name, _unmarked(first + rest)


def _unmarked(number: bytes) -> int | None:
    """Return a number without the bit that marks its length; None if all bits are set, which means: not known."""
    mask = (1 << 7 * len(number)) - 1
    value = int.from_bytes(number, "big") & mask
    return None if value == mask else value


def _known(size: int | None) -> int:
    if size is None:
        raise BadRequest(DAMAGED)
    return size


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Return an EBML number, and the place after it."""
    length = 9 - data[place].bit_length() if place < len(data) else 9
    if length > 8 or place + length > len(data):
        raise BadRequest(DAMAGED)
    return _known(_unmarked(data[place : place + length])), place + length


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        length = 9 - data[place].bit_length()
        if length > 4:
            raise BadRequest(DAMAGED)
        name, place = int.from_bytes(data[place : place + length], "big"), place + length
        size, place = _number(data, place)
        if place + size > len(data):
            raise BadRequest(DAMAGED)
        yield name, data[place : place + size]
        place += size


def _choose(tracks: bytes) -> tuple[int, Track]:
    """Return the number of the first audio track, and the track."""
    for name, entry in _elements(tracks):
        fields = dict(_elements(entry)) if name == ENTRY else {}
        if int.from_bytes(fields.get(KIND, b""), "big") == AUDIO_KIND:
            return int.from_bytes(fields.get(NUMBER, b""), "big"), _track(fields)
    raise BadRequest("the WebM stream has no audio track")


def _track(fields: dict[int, bytes]) -> Track:
    codec = fields.get(CODEC, b"").rstrip(b"\0").decode("latin-1")
    audio = dict(_elements(fields.get(AUDIO, b"")))
    if ENCODINGS in fields:
        raise BadRequest("the WebM stream's audio track is encrypted, or its packets are compressed")
    bits = int.from_bytes(audio.get(BIT_DEPTH, b""), "big")
    name = CODECS.get(codec) or PCM.get((codec, bits)) or (CODECS["A_AAC"] if codec.startswith("A_AAC/") else None)
    if name is None:
        raise BadRequest(f"the WebM stream's audio is {codec[:20]!r}: send Opus")
    frequency = audio.get(FREQUENCY, b"")
    rate = {4: ">f", 8: ">d"}.get(len(frequency))
    hertz = struct.unpack(rate, frequency)[0] if rate else 8000.0
    channels = int.from_bytes(audio.get(CHANNEL_COUNT, b"\1"), "big")
    return Track(name, fields.get(PRIVATE, b""), int(hertz) if math.isfinite(hertz) else -1, channels).checked()


def _split(block: bytes) -> tuple[int, bytes]:
    """Return the number of a block's track, and the rest of the block."""
    number, place = _number(block, 0)
    return number, block[place:]


def _packets(block: bytes) -> Iterator[bytes]:
    """Yield the packets of a block. It begins with the block's time and flags."""
    if len(block) < 3:
        raise BadRequest(DAMAGED)
    lacing, block = block[2] & LACED, block[3:]
    if not lacing:
        yield block
        return
    if not block:
        raise BadRequest(DAMAGED)
    count, place = block[0], 1  # the number of packets, without the last one
    if lacing == FIXED:
        sizes = [(len(block) - 1) // (count + 1)] * count
    elif lacing == XIPH:
        sizes, place = _xiph_sizes(block, count)
    else:
        sizes, place = _ebml_sizes(block, count)
    for size in sizes:
        if size < 0 or place + size > len(block):
            raise BadRequest(DAMAGED)
        yield block[place : place + size]
        place += size
    yield block[place:]


def _xiph_sizes(block: bytes, count: int) -> tuple[list[int], int]:
    sizes, place = [], 1
    for _ in range(count):
        size = 0
        while place < len(block) and block[place] == 255:
            size, place = size + 255, place + 1
        if place >= len(block):
            raise BadRequest(DAMAGED)
        sizes.append(size + block[place])
        place += 1
    return sizes, place


def _ebml_sizes(block: bytes, count: int) -> tuple[list[int], int]:
    """Read the first size, and the difference of each further size from the one before."""
    sizes: list[int] = []
    place = 1
    for _ in range(count):
        begun = place
        number, place = _number(block, place)
        sizes.append(sizes[-1] + number - ((1 << 7 * (place - begun) - 1) - 1) if sizes else number)
    return sizes, place
