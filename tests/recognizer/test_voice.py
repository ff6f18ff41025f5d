"""The voice detector: speech is probable where somebody speaks, and each stream has its own memory."""

from __future__ import annotations

from statistics import mean

import numpy as np
import pytest

from speechbridge.recognizer.models import Graph, load_voice_detector
from speechbridge.recognizer.voice import FRAME, VoiceDetector
from tests.helpers.clip import noise, pcm, silence


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load_voice_detector()


def heard(detector: VoiceDetector, audio: bytes) -> list[float]:
    samples = np.frombuffer(audio, "<i2")
    return [detector.detect(samples[at : at + FRAME]) for at in range(0, len(samples) - FRAME + 1, FRAME)]


def test_speech_is_probable_where_there_is_speech(graph: Graph) -> None:
    speaking = heard(VoiceDetector(graph), pcm(seconds=6.0))[10:]
    assert mean(speaking) > 0.9
    assert all(0 <= probability <= 1 for probability in speaking)


@pytest.mark.parametrize("sound", [silence(2.0), noise(2.0, 300), noise(2.0, 20000)])
def test_it_is_not_in_silence_and_noise(graph: Graph, sound: bytes) -> None:
    assert mean(heard(VoiceDetector(graph), sound)) < 0.1


def test_each_stream_remembers_its_own(graph: Graph) -> None:
    """The file has no memory: it is given and returns one."""
    alone = heard(VoiceDetector(graph), pcm(seconds=2.0))
    first, second = VoiceDetector(graph), VoiceDetector(graph)
    samples, other = np.frombuffer(pcm(seconds=2.0), "<i2"), np.frombuffer(noise(2.0), "<i2")
    together = []
    for at in range(0, len(samples) - FRAME + 1, FRAME):
        together.append(first.detect(samples[at : at + FRAME]))
        second.detect(other[at : at + FRAME])
    assert together == alone
