"""The header of a frame of MPEG audio, layers I to III (four bytes), and of AAC in ADTS (six). Pure.

Sources: ISO 11172-3 and 13818-3 (MPEG audio), ISO 13818-7 (ADTS).
"""

from __future__ import annotations

from typing import NamedTuple

AAC, LAYER_3, LAYER_2, LAYER_1 = 0, 1, 2, 3  # the layer's bits in a header
MPEG_1, MONO = 3, 3  # the version's and the mode's bits

# Bit rates in kilobits a second, indexed by the header's bits; and samples per frame. Keys: is it MPEG-1, layer's bits.
LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
KILOBITS = {
    (True, LAYER_1): tuple(range(0, 449, 32)),
    (True, LAYER_2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, LAYER_3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, LAYER_1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, LAYER_2): LOW,
    (False, LAYER_3): LOW,
}
SAMPLES = {(True, LAYER_1): 384, (True, LAYER_2): 1152, (True, LAYER_3): 1152} | {
    (False, LAYER_1): 384,
    (False, LAYER_2): 1152,
    (False, LAYER_3): 576,
}
RATES = (44100, 48000, 32000)  # of MPEG-1
DIVISOR = {3: 1, 2: 2, 0: 4}  # of these rates, for each version's bits


class MpegHeader(NamedTuple):
    """A frame's header: the frame's `size` in bytes, header included, and its number of `samples` at which `rate`."""

    layer: int
    size: int
    rate: int
    samples: int
    is_mono: bool


def read_header(bits: int) -> MpegHeader | None:
    """Parse 32 bits as a header; None if they are not one."""
    version, layer, bitrate, rate = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version not in DIVISOR or layer == 0 or bitrate in (0, 15) or rate == 3:
        return None
    kind = version == MPEG_1, layer
    slot = 4 if layer == LAYER_1 else 1
    hertz, samples = RATES[rate] // DIVISOR[version], SAMPLES[kind]
    size = (samples // 8 // slot * 1000 * KILOBITS[kind][bitrate] // hertz + (bits >> 9 & 1)) * slot
    return MpegHeader(layer, size, hertz, samples, bits >> 6 & 3 == MONO)


class Frame(NamedTuple):
    """A frame of a stream: its `size` in bytes, what all frames of its stream have in common, and its layer."""

    size: int
    shared: int
    layer: int


def mpeg_frame(header: bytes) -> Frame | None:
    """Parse the header of a frame of MPEG audio; None if it is not one, or has the reserved emphasis."""
    bits = int.from_bytes(header[:4], "big")
    found = read_header(bits)
    return None if found is None or bits & 3 == 2 else Frame(found.size, bits & 0xFFFE0C00, found.layer)


def adts_frame(header: bytes) -> Frame | None:
    """Parse the header of an ADTS frame; None if it is not one."""
    bits = int.from_bytes(header[:6], "big")
    size, rate = bits >> 5 & 0x1FFF, bits >> 26 & 0xF
    if bits >> 36 != 0xFFF or bits >> 33 & 3 or rate > 12 or size < 8:
        return None
    return Frame(size, bits >> 26, AAC)
