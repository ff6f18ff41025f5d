"""What a stream is, told by its first bytes. Pure."""

from __future__ import annotations

from speechbridge.codecs import flac, mp4, mpeg, ogg, wav, webm

ENOUGH = 12  # bytes, for all but frames without a container: there a second header must follow the first


def kind_of(begun: bytes, *, is_all: bool = False) -> str | None:
    """Name the container, as a content type; empty for what is none; None if more bytes would tell."""
    if len(begun) < ENOUGH and not is_all:
        return None
    if begun[:4] in wav.MAGICS and begun[8:12] == b"WAVE":
        return "audio/x-wav"
    if begun[4:8] in mp4.FIRST:
        return "audio/mp4"
    if begun[:3] == mpeg.ID3 and max(begun[3:5]) < 0xFF and max(begun[6:10], default=0) < 0x80:
        return "audio/mpeg"
    for magic, kind in ((ogg.MAGIC, "audio/ogg"), (webm.MAGIC, "audio/webm"), (flac.MAGIC, "audio/x-flac")):
        if begun.startswith(magic):
            return kind
    return _frames(begun, is_all=is_all)


def _frames(begun: bytes, *, is_all: bool) -> str | None:
    place, shared = 0, None
    for _ in range(3):  # headers; samples have so many in a row by chance once in 10**9 streams
        header = begun[place : place + mpeg.HEADER]
        if len(header) < mpeg.HEADER:
            return "" if is_all else None
        found = mpeg.frame(header)
        if found is None or shared not in (None, found[1:]):
            return ""
        shared = found[1:]
        place += found[0]
    return "audio/aac" if shared and shared[1] == "aac" else "audio/mpeg"
