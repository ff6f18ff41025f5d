"""Audio whose samples count, and an SDK that says which of them it heard: so none can be lost or doubled unnoticed."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from speechbridge.protocol.request import StreamRequest

START = f"{__name__}:count"  # for SPEECHBRIDGE_START
RATE = 16_000  # samples a second, 16-bit, mono
BLOCK = 4_000  # samples that a final covers


def audio(begin: int, end: int) -> bytes:
    """Return samples, each of which is its own position, as far as 16 bits can tell."""
    return array("H", (sample & 0xFFFF for sample in range(begin, end))).tobytes()


def count(feed: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    """Say a partial for each chunk and a final for each block: which samples it covers, or where they were wrong."""
    begin = round(float(request.options.get("start_ts", 0.0)) * RATE)
    heard = b""
    for chunk in feed:
        heard += chunk
        yield Partial(begin / RATE, begin / RATE + len(heard) / 2 / RATE, (Element("..."),)).encode()
        while len(heard) >= 2 * BLOCK:
            yield _final(begin, heard[: 2 * BLOCK])
            begin, heard = begin + BLOCK, heard[2 * BLOCK :]
    if heard:
        yield _final(begin, heard)


def heard(finals: Iterable[Final]) -> list[tuple[int, int]]:
    """Return the stretches of samples that finals cover, joined where one begins at the end of another, in order."""
    stretches: list[tuple[int, int]] = []
    for final in finals:
        begin, end = map(int, final.text.split("-"))
        if stretches and stretches[-1][1] == begin:
            stretches[-1] = stretches[-1][0], end
        else:
            stretches.append((begin, end))
    return stretches


def _final(begin: int, heard: bytes) -> str:
    end = begin + len(heard) // 2
    text = f"{begin}-{end}" if heard == audio(begin, end) else f"other samples at {begin}"
    return Final(begin / RATE, end / RATE, (Element(text),)).encode()
