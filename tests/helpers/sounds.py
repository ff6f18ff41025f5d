"""Sounds without speech."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.helpers.clip import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float64]

TRIAD, ORGAN = (220, 330, 440), (110, 165, 220, 330, 440)  # Hz


@cache
def sounds(seconds: float = 20.0) -> dict[str, bytes]:
    """Return sounds by name: 16 kHz, 16 bits, mono. They are the same each time."""
    count = int(seconds * RATE)
    time, dice = np.arange(count) / RATE, np.random.default_rng(1)
    white = dice.standard_normal(count)
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    clicks = np.zeros(count)
    clicks[:: RATE // 3], clicks[40 :: RATE // 3] = 1, -0.75
    made = {
        "silence": (np.zeros(count), 0),
        "white noise": (white, 8000),
        "pink noise": (np.fft.irfft(spectrum, count), 12000),
        "a tone": (_tones(time, 440), 6000),
        "a chord that swells": (_tones(time, *TRIAD) * _tremolo(time, 2), 6000),
        "an organ": (_tones(time, *ORGAN) * _tremolo(time, 5), 6000),
        "a siren": (_tones(time, 300) * _tremolo(time, 4), 6000),
        "clicks": (clicks, 20000),
        "music": (_plucked(time), 9000),
    }
    return {name: _pcm(signal, loudest) for name, (signal, loudest) in made.items()}


def _tones(time: Signal, *hertz: float) -> Signal:
    waves: Signal = np.sum(np.sin(2 * np.pi * np.outer(hertz, time)), axis=0)
    return waves


def _tremolo(time: Signal, hertz: float) -> Signal:
    return 0.5 + 0.5 * np.sin(2 * np.pi * hertz * time)


def _plucked(time: Signal) -> Signal:
    """Return chords with overtones, two per second, that fade like those of a harp."""
    chords = np.array([(220, 277, 330), (196, 247, 294), (262, 330, 392), (175, 220, 262)])
    hertz = chords[(time // 0.5 % 4).astype(int)].T
    beat = time % 0.5
    overtones = (np.sin(2 * np.pi * hertz * overtone * beat).sum(axis=0) / overtone for overtone in (1, 2, 3))
    played: Signal = np.sum(list(overtones), axis=0)
    return played * np.exp(-3 * beat)


def _pcm(signal: Signal, loudest: int) -> bytes:
    peak = np.abs(signal).max() or 1.0
    return bytes((signal / peak * loudest).astype("<i2"))
