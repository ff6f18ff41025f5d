"""Recognizes audio that is not raw samples by its first bytes. Pure.

A client that declares `audio/x-raw` but sends Ogg or MP3 would get words that nobody spoke, or none, because any bytes
can be taken for samples. Almost all containers begin with a signature of four bytes or more; samples begin with the
same bytes once in 4 * 10**9 streams. Streams of MPEG frames have no signature: there must be three headers in a row,
each where the previous one says.

Sources: the registry of WHATWG's "MIME Sniffing", file(1)'s `magic`, RFC 3533 (Ogg), RFC 9639 (FLAC), ISO
13818-7 (ADTS), ISO 13818-1 (transport streams), id3.org.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from speechbridge.protocol.mpeg import adts_frame, mpeg_frame
from speechbridge.protocol.request import BadRequest, ContentType

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.protocol.mpeg import Frame

SHORTEST = 1024  # bytes: checked after the first piece and from here on; then again at 2048, 4096 and 8192
ENOUGH = 8192  # bytes, 0.25 s of 16 kHz mono: three of the longest frames
LATEST = 2048  # the first frame begins before this byte, if a stream begins in the middle of one: no frame is longer
HEADER = 6  # bytes at the beginning of a frame that are examined
FRAMES = 3  # headers in a row. Samples contain as many by chance once in 10**9 streams, searched in LATEST bytes

# Each is matched at the first byte.
SIGNATURES = {
    "Ogg": rb"OggS\x00",
    "FLAC": rb"fLaC[\x00\x80]\x00\x00\x22",
    "WebM or Matroska": rb"\x1a\x45\xdf\xa3",
    "MP4 or QuickTime": rb".{4}(?:ftyp|styp|moov|moof|wide|mdat)(?:[\x20-\x7e]{4}|\x00\x00)",
    "MP3": rb"ID3[\x02-\x04].[\x00-\xf0][\x00-\x7f]{4}",
    "RIFF in big-endian": rb"RIFX",
    "RF64": rb"(?:RF64|BW64).{4}WAVE",
    "AVI": rb"RIFF.{4}AVI ",
    "AIFF": rb"FORM.{4}(?:AIFF|AIFC|8SVX)",
    "AU": rb"\.snd|dns\.",
    "CAF": rb"caff\x00[\x01\x02]",
    "W64": rb"riff\x2e\x91\xcf\x11",
    "SPHERE": rb"NIST_1A\n",
    "VOC": rb"Creative Voice File\x1a",
    "WavPack": rb"wvpk",
    "TTA": rb"TTA[12]",
    "Monkey's Audio": rb"MAC [\x00-\xff]{2}\x00\x00",
    "Musepack": rb"MPCK|MP\+[\x07\x17]",
    "ALAC in ADIF": rb"ADIF",
    "WMA": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "AMR": rb"#!AMR",
    "Speex or SILK": rb"#!SILK|\x02#!SILK",
    "RealAudio": rb"\.RMF|\.ra\xfd",
    "FLV": rb"FLV\x01",
    "an MPEG program stream": rb"\x00\x00\x01\xba",
    "gzip": rb"\x1f\x8b\x08[\x00-\x1f]",
    "bzip2": rb"BZh[1-9]1AY&SY",
    "xz": rb"\xfd7zXZ\x00",
    "Zstandard": rb"\x28\xb5\x2f\xfd",
    "7z": rb"7z\xbc\xaf\x27\x1c",
    "zip": rb"PK\x03\x04",
}
PCM, EXTENSIBLE, SAMPLE_BITS = 0x0001, 0xFFFE, 16  # format tags of WAV, and bits of a sample
NAMED = {name: re.compile(pattern, re.DOTALL) for name, pattern in SIGNATURES.items()}
OGG_PAGE = re.compile(rb"OggS\x00[\x00-\x07]")  # found anywhere, as a stream may begin in the middle of a page
# The beginning of a frame's header. They are strict, so that most bytes are skipped fast: quiet sound is full of 0xff.
MPEG_HEAD = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xeb]")
ADTS_HEAD = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")

TS_PACKET = 188  # bytes
TS_PACKETS = re.compile(rb"G.{187}" * 4 + b"G", re.DOTALL)  # the beginnings of five packets; each begins with a G

DECODED = {  # formats that the service decodes, with the content type that a client must send
    "Ogg": "audio/ogg",
    "FLAC": "audio/x-flac",
    "WebM or Matroska": "audio/webm",
    "MP4 or QuickTime": "audio/mp4",
    "MP3": "audio/mpeg",
    "AAC": "audio/aac",
}


class FirstBytes:
    """Examines the beginning of a stream that its client has declared as raw samples.

    It does not delay the audio: fed bytes can be passed on at once.
    """

    def __init__(self, content_type: ContentType) -> None:
        is_samples = content_type.media == ContentType.RAW and content_type.format == "S16LE"
        self._type = content_type
        self._begun: bytearray | None = bytearray() if is_samples else None  # None: nothing more is to be examined
        self._look_at = 0  # the number of bytes at which to look next: four times or five, however short the pieces are

    def feed(self, audio: bytes) -> None:
        """Examine the next piece, of any size. Raises BadRequest, with the remedy, if this is not raw samples."""
        if self._begun is None:
            return
        self._begun += audio[: ENOUGH - len(self._begun)]
        if len(self._begun) < self._look_at:
            return
        self._look_at = max(SHORTEST, 2 * len(self._begun))
        begun = bytes(self._begun)
        if len(begun) == ENOUGH:
            self._begun = None
        self._judge(begun)

    def finish(self) -> None:
        """Examine a stream that was too short for `feed`. Raises BadRequest as `feed` does."""
        if self._begun:
            self._judge(bytes(self._begun))

    def _judge(self, begun: bytes) -> None:
        rate, channels = self._type.rate, self._type.channels
        found = kind_of(begun)
        wav = _wav_format(begun)
        if wav is not None and wav[:2] != (PCM, SAMPLE_BITS):
            found = f"WAV of format {wav[0]:#06x} with {wav[1]} bits"
        if found:
            cure = f"decode it (ffmpeg -f s16le -ar {rate} -ac {channels})"
            if wav is not None:
                cure = "send content_type=audio/x-wav"
            elif found in DECODED:
                cure = f"send content_type={DECODED[found]}"
            raise BadRequest(f"this is {found}, not raw samples: {cure}")
        if wav is not None and wav[2:] != (rate, channels):
            what = f"WAV with {wav[2]} Hz and {wav[3]} channels"
            raise BadRequest(f"this is {what}, not {rate} Hz and {channels}: send audio/x-wav")


def kind_of(begun: bytes) -> str:
    """Name the format of a stream with this beginning; empty if it may be raw samples, or WAV."""
    for name, pattern in NAMED.items():
        if pattern.match(begun):
            return name
    if OGG_PAGE.search(begun):
        return "Ogg"
    if _has_chain(begun, MPEG_HEAD, mpeg_frame):
        return "MP3"
    if _has_chain(begun, ADTS_HEAD, adts_frame):
        return "AAC"
    packets = TS_PACKETS.search(begun, 0, TS_PACKET + 4 * TS_PACKET)
    if packets and packets[0].strip(b"G"):
        return "an MPEG transport stream"
    return ""


def _has_chain(begun: bytes, head: re.Pattern[bytes], frame: Callable[[bytes], Frame | None]) -> bool:
    """Tell whether FRAMES headers follow each other. `head` finds the first one, `frame` parses each."""
    for found in head.finditer(begun, 0, LATEST):
        place, shared = found.start(), None
        for _ in range(FRAMES):
            header = begun[place : place + HEADER]
            read = frame(header) if len(header) == HEADER else None
            if read is None or shared not in (None, read.shared):
                break
            place, shared = place + read.size, read.shared
        else:
            return True
    return False


def _wav_format(begun: bytes) -> tuple[int, int, int, int] | None:
    """Return a WAV's format tag, bits, rate and channels; None if it is not a WAV, or not yet known."""
    if begun[:4] != b"RIFF" or begun[8:12] != b"WAVE":
        return None
    place = 12
    while place + 8 <= len(begun):
        name, size = struct.unpack_from("<4sI", begun, place)
        if name == b"fmt " and place + 24 <= len(begun):
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", begun, place + 8)
            if tag == EXTENSIBLE:  # the real tag begins the subformat, which may not have arrived yet: then assume PCM
                tag = int.from_bytes(begun[place + 32 : place + 34], "little") or PCM
            return tag, bits, rate, channels
        place += 8 + size + size % 2
    return None
