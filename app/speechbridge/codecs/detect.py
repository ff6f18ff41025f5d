"""Detects the format of a stream by its first bytes. Pure."""

from __future__ import annotations

from speechbridge.codecs import flac, mp4, mpeg, ogg, wav, webm
from speechbridge.protocol.mpeg import AAC
from speechbridge.protocol.request import BadRequest

# The signature of each kind: (place, bytes). The first byte of an MP4 is 0, as its first box is smaller than 16 MiB.
SIGNATURES = (
    *(("audio/x-wav", ((0, magic), (8, b"WAVE"))) for magic in wav.MAGICS),
    *(("audio/mp4", ((0, b"\0"), (4, name))) for name in mp4.FIRST),
    *(("audio/mpeg", ((0, mpeg.ID3 + version),)) for version in (b"\2", b"\3", b"\4")),
    ("audio/ogg", ((0, ogg.MAGIC + b"\0"),)),
    ("audio/webm", ((0, webm.MAGIC),)),
    ("audio/x-flac", ((0, flac.MAGIC),)),
)
FRAMES = 3  # frame headers in a row, if there is no container. Samples have so many by chance once in 10**9 streams

LOOKED_AT = 2**14  # bytes that are enough to decide: three frames of any kind


def not_samples(kind: str) -> BadRequest:
    """Return the exception for a container that was announced as raw samples."""
    return BadRequest(f"this is {kind}, not raw samples: send content_type={kind}")


def kind_of(begun: bytes, *, is_all: bool = False) -> str | None:
    """Return the content type of the container; empty if it is none that we know; None if it needs more bytes.

    `is_all` says that no more bytes will follow.
    """
    is_open = False
    for kind, signature in SIGNATURES:
        parts = [(begun[place : place + len(magic)], magic) for place, magic in signature]
        if all(part == magic for part, magic in parts):
            return kind
        is_open = is_open or all(magic.startswith(part) for part, magic in parts)
    if is_open and not is_all:
        return None
    return _frames(begun, is_all=is_all)


def _frames(begun: bytes, *, is_all: bool) -> str | None:
    place, shared = 0, None
    for _ in range(FRAMES):
        header = begun[place : place + mpeg.HEADER]
        if len(header) < mpeg.HEADER:
            return None if _may_be_sync(header) and not is_all else ""
        found = mpeg.frame(header)
        if found is None or shared not in (None, found[1:]):
            return ""
        shared = found[1:]
        place += found.size
    return "audio/aac" if shared and shared[1] == AAC else "audio/mpeg"


def _may_be_sync(header: bytes) -> bool:
    return header[:1] in (b"", b"\xff") and (len(header) < 2 or header[1] >= 0xE0)
