"""Names of audio formats in content types, as clients spell them. Pure.

Sources: IANA's registry of media types, RFC 2046 (basic), RFC 3190 and 3551 (L16, L24, PCMU, PCMA), RFC 5334 (Ogg), the
types that MediaRecorder uses in Chromium, Firefox and Safari, and GStreamer's names for raw formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTAINERS: Mapping[str, str] = {
    "audio/x-wav": "audio/x-wav",
    "audio/wav": "audio/x-wav",
    "audio/wave": "audio/x-wav",
    "audio/vnd.wave": "audio/x-wav",
    "audio/x-pn-wav": "audio/x-wav",
    "audio/x-flac": "audio/x-flac",
    "audio/flac": "audio/x-flac",
    "audio/webm": "audio/webm",
    "video/webm": "audio/webm",
    "audio/matroska": "audio/webm",
    "audio/x-matroska": "audio/webm",
    "video/matroska": "audio/webm",
    "video/x-matroska": "audio/webm",
    "audio/ogg": "audio/ogg",
    "audio/x-ogg": "audio/ogg",
    "video/ogg": "audio/ogg",
    "application/ogg": "audio/ogg",
    "audio/opus": "audio/ogg",
    "audio/vorbis": "audio/ogg",
    "audio/mp4": "audio/mp4",
    "video/mp4": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "video/quicktime": "audio/mp4",
    "audio/aac": "audio/aac",
    "audio/x-aac": "audio/aac",
    "audio/aacp": "audio/aac",
    "audio/mpeg": "audio/mpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/mpeg3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
}
"""Formats with a header that describes their content, and our name for each."""

SAMPLES: Mapping[str, tuple[str, str]] = {
    "audio/x-mulaw": ("audio/x-mulaw", "MULAW"),
    "audio/mulaw": ("audio/x-mulaw", "MULAW"),
    "audio/x-ulaw": ("audio/x-mulaw", "MULAW"),
    "audio/ulaw": ("audio/x-mulaw", "MULAW"),
    "audio/pcmu": ("audio/x-mulaw", "MULAW"),
    "audio/basic": ("audio/x-mulaw", "MULAW"),
    "audio/x-alaw": ("audio/x-alaw", "ALAW"),
    "audio/alaw": ("audio/x-alaw", "ALAW"),
    "audio/pcma": ("audio/x-alaw", "ALAW"),
    "audio/l16": ("audio/l16", "S16BE"),
    "audio/l24": ("audio/l24", "S24BE"),
}
"""Samples without a header, whose format is given by the name: our name, and GStreamer's name of the format."""

RAW_FORMATS = "S8 U8 S16 U16 S24 U24 S24_32LE S32 U32 F32 F64 (LE or BE), MULAW or ALAW"
"""Formats of raw samples that the service accepts, as text for a client; `codecs.samples` decodes them."""

TELEPHONE = 8000  # samples a second, the default of mu-law and A-law without `rate`
