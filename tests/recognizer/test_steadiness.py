"""Steady sounds, told from speech in quiet and beside a hum."""

from __future__ import annotations

import numpy as np
import pytest

from speechbridge.recognizer.steadiness import is_steady
from tests.helpers.clip import RATE, READING, TWO_VOICES, pcm
from tests.helpers.sounds import sounds

SPEECH = np.frombuffer(pcm(READING), "<i2"), np.frombuffer(pcm(TWO_VOICES), "<i2")


@pytest.mark.parametrize("sound", ["a tone", "a chord that swells", "an organ", "a siren"])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 15.0])
def test_a_steady_sound_is_steady_however_it_swells(sound: str, seconds: float) -> None:
    samples = np.frombuffer(sounds()[sound], "<i2")
    for start in range(0, RATE, RATE // 4):
        assert is_steady(samples[start : start + int(seconds * RATE)])


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("hum", [0.0, 1.0])
def test_speech_is_not_steady_beside_a_hum_as_loud_as_it_is(seconds: float, hum: float) -> None:
    length = int(seconds * RATE)
    time = np.arange(length) / RATE
    mains = sum(np.sin(2 * np.pi * 100 * k * time) / k for k in range(1, 12))
    spoken = 0
    for samples in SPEECH:
        for start in range(0, len(samples) - length, RATE // 2):
            piece = samples[start : start + length].astype(float)
            if np.abs(piece).max() > 4000:  # no pause
                spoken += 1
                noise = hum * np.sqrt(np.mean(piece**2) / np.mean(mains**2)) * mains
                assert not is_steady(((piece + noise) / 3).astype("<i2"))
    assert spoken >= 8


@pytest.mark.parametrize("seconds", [0.0, 0.1, 2.0])
def test_neither_silence_nor_a_moment_is_steady(seconds: float) -> None:
    assert not is_steady(np.zeros(int(seconds * RATE), "<i2"))
