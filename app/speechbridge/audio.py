"""Converts audio of any sample rate and any number of channels to 16 kHz mono, for a recognizer."""

from __future__ import annotations

import math

import numpy as np
import soxr  # type: ignore[import-untyped] # ships no stubs

RATE = 16000  # samples a second: the rate that the recognizer's models were trained at
SAMPLE = 2  # bytes of one S16LE sample

# Chunks that may follow the samples of a WAV. Any other data after the declared size of the samples is more samples.
WAV_CHUNKS = frozenset(
    {b"LIST", b"id3 ", b"ID3 ", b"bext", b"fact", b"cue ", b"smpl", b"PEAK", b"JUNK", b"iXML", b"afsp", b"_PMX"}
)


class Converter:
    """Converts interleaved S16LE to 16 kHz mono S16LE, piece by piece.

    Pieces may have any length: an incomplete frame (one sample of each channel) waits for the next piece. Channels are
    averaged. 16 kHz mono is passed on unchanged. It holds at most one piece and a few milliseconds of audio.
    """

    def __init__(self, rate: int, channels: int = 1) -> None:
        """Take `rate` in samples a second, 8000 or more, and the number of channels, 1 or more."""
        self._channels = channels
        self._resampler = None if rate == RATE else soxr.ResampleStream(rate, RATE, 1, dtype="float32")
        self._rest = b""

    def feed(self, pcm: bytes) -> bytes:
        """Return the audio converted so far: often a little less than was fed, because the filter looks ahead."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % (SAMPLE * self._channels)
        self._rest = pcm[whole:]
        if self._resampler is None and self._channels == 1:
            return pcm[:whole]
        return self._convert(pcm[:whole])

    def finish(self) -> bytes:
        """Return the resampler's last samples. An incomplete frame at the very end is dropped.

        `feed` must not be called afterwards.
        """
        return b"" if self._resampler is None else self._convert(b"", last=True)

    def _convert(self, pcm: bytes, *, last: bool = False) -> bytes:
        frames = np.frombuffer(pcm, "<i2").reshape(-1, self._channels)
        mono = frames.mean(axis=1, dtype=np.float32)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        samples: bytes = np.rint(mono).clip(-32768, 32767).astype("<i2").tobytes()
        return samples


def loudness(pcm: bytes) -> float:
    """Return the root mean square of S16LE samples, 0 to 32,768, estimated from every eighth of them."""
    samples = np.frombuffer(pcm, "<i2", len(pcm) // SAMPLE)[::8].astype(np.float32)
    return math.sqrt(samples.dot(samples) / samples.size) if samples.size else 0.0
