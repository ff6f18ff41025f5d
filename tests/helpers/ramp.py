"""Audio with numbered samples, and an SDK that reports which it received: so lost and doubled samples are noticed."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from speechbridge.protocol.request import StreamRequest

START = f"{__name__}:count"  # for SPEECHBRIDGE_START
RATE = 16_000  # Hz, 16-bit, mono
BLOCK = 4_000  # samples covered by each final


def audio(begin: int, end: int) -> bytes:
    """Return samples whose value is their position, modulo 2**16."""
    return array("H", (sample & 0xFFFF for sample in range(begin, end))).tobytes()


def count(feed: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    """Yield a partial for each chunk, and a final for each block: which samples it covers, or where they are wrong."""
    begin = round(float(request.options.get("start_ts", 0.0)) * RATE)
    received = b""
    for chunk in feed:
        received += chunk
        yield Partial(begin / RATE, begin / RATE + len(received) / 2 / RATE, (Element("..."),)).encode()
        while len(received) >= 2 * BLOCK:
            yield _final(begin, received[: 2 * BLOCK])
            begin, received = begin + BLOCK, received[2 * BLOCK :]
    if received:
        yield _final(begin, received)


def covered(finals: Iterable[Final]) -> list[tuple[int, int]]:
    """Return the stretches of samples that the finals cover, in order; adjacent stretches are joined."""
    stretches: list[tuple[int, int]] = []
    for final in finals:
        begin, end = map(int, final.text.split("-"))
        if stretches and stretches[-1][1] == begin:
            stretches[-1] = stretches[-1][0], end
        else:
            stretches.append((begin, end))
    return stretches


def _final(begin: int, received: bytes) -> str:
    end = begin + len(received) // 2
    text = f"{begin}-{end}" if received == audio(begin, end) else f"other samples at {begin}"
    return Final(begin / RATE, end / RATE, (Element(text),)).encode()
