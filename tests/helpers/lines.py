"""An SDK with given lines as its transcript, for tests of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINES = [
    "Good evening, and welcome to the town hall.",
    "Tonight we talk about the bridge: what it cost, who uses it <and> why it & its lights stay.",
    "You will read along on the screen behind me.",
]


def final(number: int, text: str) -> Final:
    words = text.split()
    spoken = [
        Element(word, "text", 5 * number + 0.3 * n, 5 * number + 0.3 * n + 0.25, 0.9) for n, word in enumerate(words)
    ]
    spaced = [element for word in spoken for element in (word, Element(" ", "punct"))][:-1]
    return Final(5.0 * number, spoken[-1].end_ts or 0.0, tuple(spaced))


def talk(lines: list[str], partial: str = "") -> Callable[[Iterator[bytes]], Iterator[str]]:
    """Make an SDK that yields these lines at the first audio, then only reads."""

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio, None)
        for number, line in enumerate(lines):
            yield final(number, line).encode()
        if partial:
            yield Partial(0.0, 0.2, tuple(Element(word) for word in partial.split())).encode()
        for _ in audio:
            pass

    return start
