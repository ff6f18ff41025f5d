"""Whole files, read by FFmpeg's demuxers: formats that have no reader of their own, and those that must be sought in.

libavformat pulls its input, and seeks in it, so the file must be there. It reads it by its descriptor, without Python:
in a hostile file it seeks millions of times, and each time would hold up the interpreter. It knows 370 formats. Some of
them name other files, or addresses, to be opened: those of FORMATS do not, and no protocol is allowed but that of the
descriptor. The only import of av.container (PyAV).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from av.container import InputContainer
from av.container import open as open_container

from speechbridge.audio import RATE, SAMPLE
from speechbridge.codecs.codec import DAMAGED, UNDECODABLE, Mono
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import AudioStream

FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,iff,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,"
    "ogg,oma,qcp,rm,sox,tak,tta,voc,w64,wav,webm,wv"
)
OPTIONS = {
    "format_whitelist": FORMATS,
    "protocol_whitelist": "fd",
    "probesize": str(2**20),  # bytes that are looked at, to tell what the file is and how its sound is encoded
    "max_streams": "32",
}
SECONDS = 5.0  # for the beginning of a file to be read, and for each packet; FFmpeg looks at the time at each read
PIECE = SAMPLE * RATE  # bytes that are given on at once: a second, as nobody waits for the first word of a file
NO_AUDIO = "the file is damaged, or no audio that we read"


def decode_file(descriptor: int) -> Iterator[bytes]:
    """Yield the samples of a file, 16 kHz mono S16LE, in pieces. Raises BadRequest for what cannot be decoded.

    It blocks while it reads, from where the descriptor is. Where there are several audio tracks, the first is heard.
    """
    options = OPTIONS | {"fd": str(descriptor)}
    try:
        container = open_container("fd:", "r", options=options, metadata_errors="replace", timeout=SECONDS)
    except UNDECODABLE:
        raise BadRequest(NO_AUDIO) from None
    with container:
        # There is no context where FFmpeg has no decoder; PyAV's types do not know that.
        tracks = [track for track in container.streams.audio if track.codec_context is not None]
        if not tracks:
            raise BadRequest("the file has no audio track that can be decoded")
        has_sound, waiting = False, bytearray()
        for pcm in _decoded(container, tracks[0]):
            has_sound = True
            waiting += pcm
            while len(waiting) >= PIECE:
                yield bytes(waiting[:PIECE])
                del waiting[:PIECE]
    if not has_sound:
        raise BadRequest(NO_AUDIO)
    if waiting:
        yield bytes(waiting)


def _decoded(container: InputContainer, track: AudioStream) -> Iterator[bytes]:
    track.codec_context.thread_count = 1  # a file has no more of the machine than a stream
    mono, damaged = Mono(), 0
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else []
        except UNDECODABLE:
            damaged += 1
            if damaged >= DAMAGED:
                raise BadRequest(NO_AUDIO) from None
            continue
        except IndexError:  # at the end, PyAV does not know a track that appeared in the middle of the file
            break
        if packet is None:
            break
        if frames:
            damaged = 0
            yield b"".join(map(mono.feed, frames))
    if rest := mono.flush():
        yield rest
