"""Speech as clients record it: encoded by FFmpeg's encoders, in memory."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from tempfile import NamedTemporaryFile

import av
import numpy as np

from tests.helpers import clip

RATE = 16000
LIVE = {"movflags": "empty_moov+default_base_moof", "frag_duration": "200000"}


@dataclass(frozen=True)
class Form:
    """A container, and the codec in it. `exact` forms are lossless."""

    media: str
    container: str
    codec: str
    rate: int = RATE
    channels: int = 1
    sample: str = "s16"  # sample format of the encoder
    exact: bool = False
    options: dict[str, str] = field(default_factory=dict, hash=False)
    codec_options: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.container}-{self.codec}-{self.rate}-{self.channels}"


WEBM = Form("audio/webm", "webm", "libopus", 48000, sample="flt", options={"live": "1"})  # as MediaRecorder writes it
EXACT_WEBM = Form("audio/webm", "matroska", "flac", exact=True, options={"live": "1"})
OGG = Form("audio/ogg", "ogg", "libopus", 48000, sample="flt", options={"page_duration": "100000"})
SAMPLES = "audio/x-raw;layout=interleaved;"  # the rate, the format and the channels follow
VORBIS = {"strict": "experimental"}
FORMS = (
    WEBM,
    EXACT_WEBM,
    OGG,
    Form("audio/webm", "webm", "libopus", 48000, 2, "flt"),
    Form("audio/webm", "webm", "vorbis", 48000, 2, "fltp", codec_options=VORBIS),
    Form("audio/webm", "matroska", "pcm_f32le", sample="flt", exact=True),
    Form("audio/webm", "matroska", "pcm_s24le", sample="s32", exact=True),
    Form("audio/webm", "matroska", "aac", sample="fltp"),
    Form("audio/webm", "matroska", "libmp3lame", sample="fltp"),
    Form("audio/ogg", "ogg", "vorbis", 44100, 2, "fltp", codec_options=VORBIS),
    Form("audio/ogg", "ogg", "flac", exact=True),
    Form("audio/mp4", "mp4", "aac", 44100, sample="fltp", options=LIVE),
    Form("audio/mp4", "mp4", "aac", 48000, 2, "fltp", options={"movflags": "frag_keyframe+empty_moov"}),
    Form("audio/mp4", "mp4", "aac", sample="fltp", options={"movflags": "faststart"}),
    Form("audio/mp4", "mp4", "libopus", 48000, sample="flt", options=LIVE),
    Form("audio/mp4", "mp4", "flac", exact=True, options=LIVE),
    Form("audio/mp4", "ipod", "alac", sample="s16p", exact=True, options={"movflags": "faststart"}),
    Form("audio/mp4", "mov", "pcm_s16le", exact=True, options={"movflags": "faststart"}),
    Form("audio/aac", "adts", "aac", sample="fltp"),
    Form("audio/aac", "adts", "aac", 48000, 2, "fltp"),
    Form("audio/mpeg", "mp3", "libmp3lame", sample="fltp"),
    Form("audio/mpeg", "mp3", "libmp3lame", 44100, 2, "fltp"),
    Form("audio/mpeg", "mp2", "mp2", 48000),
    Form("audio/x-flac", "flac", "flac", exact=True),
    Form("audio/x-flac", "flac", "flac", 48000, 2),
    Form("audio/x-wav", "wav", "pcm_s16le", exact=True),
    Form("audio/x-wav", "wav", "pcm_s16le", 8000),
    Form("audio/x-wav", "wav", "pcm_s24le", sample="s32", exact=True),
    Form("audio/x-wav", "wav", "pcm_s32le", sample="s32", exact=True),
    Form("audio/x-wav", "wav", "pcm_f32le", sample="flt", exact=True),
    Form("audio/x-wav", "wav", "pcm_f64le", sample="dbl", exact=True),
    Form("audio/x-wav", "wav", "pcm_u8", sample="u8"),
    Form("audio/x-wav", "wav", "pcm_mulaw", 8000),
    Form("audio/x-wav", "wav", "pcm_alaw", 8000, 2),
    Form(SAMPLES + "rate=44100;format=S24LE;channels=2", "s24le", "pcm_s24le", 44100, 2, "s32"),
    Form(SAMPLES + "rate=16000;format=S32LE;channels=1", "s32le", "pcm_s32le", sample="s32", exact=True),
    Form(SAMPLES + "rate=16000;format=F32LE;channels=1", "f32le", "pcm_f32le", sample="flt", exact=True),
    Form(SAMPLES + "rate=16000;format=S16BE;channels=1", "s16be", "pcm_s16be", exact=True),
    Form(SAMPLES + "rate=16000;format=U8;channels=1", "u8", "pcm_u8", sample="u8"),
    Form("audio/x-mulaw;rate=8000", "mulaw", "pcm_mulaw", 8000),
    Form("audio/x-alaw;rate=8000;channels=1", "alaw", "pcm_alaw", 8000),
)
FEW = (WEBM, EXACT_WEBM, OGG, *FORMS[11:14], *FORMS[18:21], FORMS[23], FORMS[27], FORMS[34])  # one of each kind


@cache
def reading(form: Form, seconds: float = 2.0) -> bytes:
    """Return the beginning of the reading in this form."""
    return encoded(clip.pcm(seconds=seconds), form)


class _Sink(io.BytesIO):
    """A file that is not seekable, like a socket: so a muxer writes its live format."""

    def seekable(self) -> bool:
        return False


def encoded(pcm: bytes, form: Form, *, seekable: bool = False) -> bytes:
    """Encode 16 kHz mono S16LE, as a live recorder does, or into a seekable file."""
    if seekable or "faststart" in form.options.get("movflags", ""):
        with NamedTemporaryFile(suffix=f".{form.container}") as file:  # faststart reopens the file by its name
            _write(file.name, pcm, form)
            return file.read()
    sink = io.BytesIO() if form.container == "wav" else _Sink()
    _write(sink, pcm, form)
    return sink.getvalue()


def _write(sink: io.BytesIO | str, pcm: bytes, form: Form) -> None:
    with av.open(sink, "w", format=form.container, options=form.options) as container:
        layout = "mono" if form.channels == 1 else "stereo"
        stream = container.add_stream(form.codec, rate=form.rate, options=form.codec_options)
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.layout = layout
        stream.codec_context.format = form.sample
        resampler = av.AudioResampler(form.sample, layout, form.rate)
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), "s16", "mono")
        frame.sample_rate = RATE
        frame.pts, frame.time_base = 0, Fraction(1, RATE)
        fifo = av.AudioFifo()
        for part in (frame, None):
            for converted in resampler.resample(part):
                fifo.write(converted)
        size = stream.codec_context.frame_size or form.rate // 50
        while (piece := fifo.read(size) or fifo.read()) is not None:
            for packet in stream.encode(piece):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
