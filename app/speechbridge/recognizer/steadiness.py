"""Sounds whose spectrum stays as it is (a tone, an organ, a siren, a hum), told from speech. Pure.

Speech changes all the time. The voice detector takes many steady sounds for speech, and to decode them costs as much.
Measured, as the likeness of two spectra 0.1 s apart: such sounds have 0.97 to 1.0, however they swell. Speech has 0.7
at most, 0.78 beside a hum that is 5 dB louder. Higher frequencies are raised first: a hum must not outweigh a voice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from speechbridge.recognizer.moonshine import Samples

STEADY = 0.9  # mean likeness, 0 to 1
EMPHASIS = 0.97
WINDOW, STEP = 1024, 512  # samples
APART = 3  # steps
LOWEST = 4  # bins left out: below 60 Hz


def is_steady(samples: Samples) -> bool:
    """Whether the spectrum stays the same. 16 kHz; less than a quarter of a second is never steady. 0.5 ms a second."""
    raised = np.diff(samples.astype(np.float32)) + (1 - EMPHASIS) * samples[:-1]
    if len(raised) < WINDOW + APART * STEP:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(raised, WINDOW)[::STEP] * np.hanning(WINDOW).astype(np.float32)
    spectra = np.abs(np.fft.rfft(windows))[:, LOWEST:]
    loudness = np.linalg.norm(spectra, axis=1)
    weights = loudness[:-APART] * loudness[APART:]
    products = np.einsum("ij,ij->i", spectra[:-APART], spectra[APART:])
    # A pair counts by the root of its power: a bang does not outweigh all else.
    likeness = np.divide(products, weights, out=np.zeros_like(products), where=weights > 0)
    counts = np.sqrt(weights)
    return bool(likeness @ counts >= STEADY * counts.sum()) and counts.sum() > 0
