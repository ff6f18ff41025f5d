"""Reads whole files with FFmpeg's demuxers: formats without a reader of ours, and those that need seeking.

libavformat pulls its input and seeks in it, so the whole file must be there. It reads the file by its descriptor,
without Python: in a hostile file it seeks millions of times, and calls into Python would block all other threads. It
knows 370 formats. Some of them make it open other files or addresses: FORMATS contains none of these, and the only
protocol allowed is the descriptor. The only import of av.container (PyAV).
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
    "probesize": str(2**20),  # bytes that are read to detect the format and the codec
    "max_streams": "32",
}
SECONDS = 5.0  # time limit for opening a file, and for each packet; FFmpeg checks it at each read
PIECE = SAMPLE * RATE  # bytes that are passed on at once: a second, as files need no low latency
NO_AUDIO = "the file is damaged, or has no audio that we can decode"


def decode_file(descriptor: int) -> Iterator[bytes]:
    """Yield the samples of a file, 16 kHz mono S16LE, in pieces. Raises BadRequest if it cannot be decoded.

    It reads from the descriptor's current position, and blocks while it reads. Of several audio tracks, the first is
    decoded.
    """
    options = OPTIONS | {"fd": str(descriptor)}
    try:
        container = open_container("fd:", "r", options=options, metadata_errors="replace", timeout=SECONDS)
    except UNDECODABLE:
        raise BadRequest(NO_AUDIO) from None
    with container:
        # If FFmpeg has no decoder for a track, its context is None; PyAV's types do not say so.
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
    track.codec_context.thread_count = 1  # a file must not take more cores than a stream
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
        except IndexError:  # PyAV raises it at the end, if a track appeared in the middle of the file
            break
        if packet is None:
            break
        if frames:
            damaged = 0
            yield b"".join(map(mono.feed, frames))
    if rest := mono.flush():
        yield rest
