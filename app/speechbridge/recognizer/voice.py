"""Silero's voice detector: the probability of speech in each frame of 32 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from speechbridge.audio import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speechbridge.recognizer.models import Array, Graph

FRAME = 512  # samples; the detector was trained on frames of this length
FRAME_SECONDS = FRAME / RATE
CONTEXT = 64  # samples of the previous frame that the detector gets again
RATE_INPUT = np.array(RATE, np.int64)


class VoiceDetector:
    """The voice detector of one stream. It keeps state between frames. About 0.2 ms per frame."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._state: Array = np.zeros((2, 1, 128), np.float32)
        self._samples = np.zeros((1, CONTEXT + FRAME), np.float32)

    def detect(self, frame: NDArray[np.int16]) -> float:
        """Return the probability, 0 to 1, of speech in the next `FRAME` samples of 16 kHz mono."""
        self._samples[:, :CONTEXT] = self._samples[:, FRAME:]
        self._samples[0, CONTEXT:] = frame / np.float32(32768)
        inputs = {"input": self._samples, "state": self._state, "sr": RATE_INPUT}
        output, self._state = self._graph.run(inputs)
        return float(output[0, 0])
