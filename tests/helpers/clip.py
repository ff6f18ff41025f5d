"""The recording that the tests play, and what is said in it."""

from __future__ import annotations

from pathlib import Path

from speechbridge.cli.transcribe import Recording
from speechbridge.protocol.messages import Final, Partial

CLIP = Path(__file__).parents[1] / "speech" / "two-voices.flac"
WORDS = [
    "the weather is very nice today and we are going to the market in the morning",
    "please open the window and close the door behind you",
]


def chunks() -> list[bytes]:
    with Recording(CLIP) as recording:
        return [block for block in recording.blocks() if block]


def words_right(heard: list[Partial | Final]) -> float:
    """Return the share of the clip's words that the finals hold."""
    left = [word.value for message in heard if isinstance(message, Final) for word in message.words]
    said, right = " ".join(WORDS).split(), 0
    for word in said:
        if word in left:
            left.remove(word)
            right += 1
    return right / len(said)
