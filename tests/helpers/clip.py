"""The recordings that the tests play, and their texts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from speechbridge.cli.recording import Recording
from speechbridge.protocol.messages import Final, Partial

RATE = 16000
SPEECH = Path(__file__).parents[1] / "speech"
READING = SPEECH / "reading.flac"  # real speech: a novel, read aloud
READ = (
    "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do for them.",
    "Unless to be rather cold-hearted and rather selfish is to be ill-disposed, he might even have been made amiable himself.",  # noqa: E501
)  # as the recognizer writes it: the pause of 0.36 s between the second and the third sentence is not an endpoint
FIRST_SENTENCE = 7.1  # seconds
TWO_VOICES = SPEECH / "two-voices.flac"  # synthetic ones
SPOKEN = (
    "The weather is very nice today, and we are going to the market in the morning.",
    "Please open the window and close the door behind you.",
)


@cache
def pcm(path: Path = READING, seconds: float | None = None) -> bytes:
    """Return a recording as 16 kHz mono S16LE, or its first seconds."""
    samples, rate = soundfile.read(path, -1 if seconds is None else int(seconds * RATE), dtype="int16")
    assert rate == RATE
    return bytes(samples.tobytes())


def chunks() -> list[bytes]:
    """Return the reading in the chunks that `transcribe` sends."""
    with Recording(READING) as recording:
        return [block for block in recording.blocks() if block]


def words_right(messages: list[Partial | Final]) -> float:
    """Return the share of the reading's words that are in the finals."""
    left = [_plain(word.value) for message in messages if isinstance(message, Final) for word in message.words]
    truth, right = " ".join(READ).split(), 0
    for word in map(_plain, truth):
        if word in left:
            left.remove(word)
            right += 1
    return right / len(truth)


def _plain(word: str) -> str:
    return word.strip(".,").lower()


def silence(seconds: float) -> bytes:
    return bytes(2 * int(seconds * RATE))


def noise(seconds: float, loudness: int = 3000) -> bytes:
    """Return white noise, the same each time."""
    return np.random.default_rng(1).integers(-loudness, loudness, int(RATE * seconds), "<i2").tobytes()
