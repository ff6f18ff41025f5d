"""FFmpeg's decoders: packets in, 16 kHz mono S16LE out. The only import of av (PyAV), but for `files.py`.

libavcodec decodes, and libswresample converts: it delays audio by 1 ms, while soxr delays telephone audio by 115 ms.
Our own readers parse the containers. libavformat is not used for streams: it pulls its input, so it would wait in C for
bytes that the client has not sent yet; it probes seconds of audio, and allocates what a hostile header asks for.

A codec belongs to the thread that made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import av.error
import av.logging

from speechbridge.audio import RATE, SAMPLE, Converter
from speechbridge.codecs.source import CHANNELS, PLAIN, RATES
from speechbridge.protocol.request import BadRequest

if TYPE_CHECKING:
    from av import AudioCodecContext, AudioFrame

    from speechbridge.codecs.source import Track

av.logging.set_level(None)  # FFmpeg would log each damaged packet

UNDECODABLE = (av.error.FFmpegError, ValueError)  # PyAV raises these
# Packets in a row that cannot be decoded, half a second of Opus: some are normal where a stream is cut or joined.
DAMAGED = 25


class Codec:
    """The decoder of one track."""

    def __init__(self, track: Track) -> None:
        """Make the decoder. Raises BadRequest if FFmpeg rejects the track's parameters."""
        # Raw audio may have ten channels, and FFmpeg has layouts for eight: 16-bit samples are averaged before.
        self._averaged = Converter(RATE, track.channels) if track.codec == PLAIN and track.channels > 1 else None
        channels = 1 if self._averaged else track.channels
        self._name = track.codec
        self._damaged = 0  # packets in a row
        self._has_decoded = False
        self._converted = Mono()
        try:
            self._context: AudioCodecContext = av.CodecContext.create(track.codec, "r")  # type: ignore[assignment]
            self._context.thread_count = 1  # more threads would delay frames
            if track.extradata:
                self._context.extradata = track.extradata
            if track.rate:
                self._context.sample_rate = track.rate
            if channels:
                self._context.layout = str(av.AudioLayout(_layout(channels)).name)
            self._context.open()
        except UNDECODABLE as error:
            raise BadRequest(f"the stream's {self._name} cannot be decoded: {type(error).__name__}") from None

    def decode(self, packet: bytes) -> bytes:
        """Return the samples of a packet. Raises BadRequest once many in a row are damaged."""
        if self._averaged is not None:
            packet = self._averaged.feed(packet)
        if not packet:  # FFmpeg takes an empty packet for the end of the stream
            return b""
        try:
            frames = self._context.decode(av.Packet(packet))
        except UNDECODABLE:
            self._damaged += 1
            if self._damaged >= DAMAGED:
                raise BadRequest(f"the stream is damaged: its {self._name} cannot be decoded") from None
            return b""
        if frames:
            self._damaged, self._has_decoded = 0, True
        return b"".join(map(self._converted.feed, frames))

    def finish(self) -> bytes:
        """Return the last samples. Raises BadRequest if there was nothing but damaged packets."""
        if self._damaged and not self._has_decoded:
            raise BadRequest(f"the stream is damaged: its {self._name} cannot be decoded")
        try:
            frames = self._context.decode(None)
        except UNDECODABLE:
            frames = []
        return b"".join(map(self._converted.feed, frames)) + self._converted.flush()


class Mono:
    """Converts decoded frames of any rate and layout, which may change, to 16 kHz mono S16LE."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None  # of the frames

    def feed(self, frame: AudioFrame) -> bytes:
        """Return the samples so far. Raises BadRequest for a rate or a number of channels that cannot be converted."""
        form = frame.format.name, frame.layout.name, frame.sample_rate
        flushed = b""
        if form != self._format:
            flushed = self.flush()
            if frame.layout.nb_channels not in CHANNELS:
                raise BadRequest(f"the audio has {frame.layout.nb_channels} channels: send 1 to {CHANNELS[-1]}")
            if frame.sample_rate not in RATES:
                raise BadRequest(f"the audio has {frame.sample_rate} samples a second: send {RATES[0]} to {RATES[-1]}")
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            self._format = form
        assert self._resampler is not None  # noqa: S101 # made with the format
        frame.pts = None  # our times count samples: ignore the timestamps of the container
        return flushed + _samples(self._resampler.resample(frame))

    def flush(self) -> bytes:
        """Return the last samples."""
        if self._resampler is None:
            return b""
        resampler, self._resampler = self._resampler, None
        return _samples(resampler.resample(None))


def _layout(channels: int) -> str:
    names = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1")
    return names[channels - 1]


def _samples(frames: list[AudioFrame]) -> bytes:
    return b"".join(bytes(frame.planes[0])[: SAMPLE * frame.samples] for frame in frames)
