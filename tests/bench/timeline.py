"""What happens at a break? Draws the three upstream connections of a stream, as measured: `results/break.svg`.

Method: ten seconds of audio, 100 ms at a time in real time, through a bridge and a resumable stream. The first
connection breaks after 4.3 s of audio. The second stops answering after 7 s of audio, and is replaced after a second.
Each connection sends a final for every two seconds of audio, half a second after it has received them. Replayed audio
is sent without pauses.

    python -m tests.bench.timeline
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncbridge import Attempt, Bridge, Early, Resumable, Resumption, Stuck
from tests.bench.plot import OTHER, SERVICE, WIDTH, svg, text
from tests.bench.report import RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 1000  # bytes a second: a byte is a millisecond of audio
CHUNK, SECONDS = 100, 10
FINAL, FINAL_DELAY = 2000, 0.5  # bytes that a final settles, and seconds after which it comes
BREAKS_AT, STOPS_AT = 4300, 7000  # bytes
SILENCE = 1.0  # seconds without an answer, after which a connection is replaced
COLOURS = ("#c0504d", "#c9a227", "#4f8a4f")

Points = list[tuple[float, int]]  # seconds since the beginning, and a position in the audio


@dataclass
class Drawn:
    """What is to be drawn."""

    received: Points = field(default_factory=list)  # from the client
    sent: list[Points] = field(default_factory=list)  # on each upstream connection
    finals: list[tuple[float, int, int]] = field(default_factory=list)  # when, and the audio that it settles


class Run:
    """One run of the stream, and what it recorded."""

    def __init__(self) -> None:
        self.drawn = Drawn()
        self._begun = time.monotonic()

    async def stream(self) -> Drawn:
        rules: Resumption[int] = Resumption(
            settled=lambda end, _begun: end,
            again=lambda error: isinstance(error, OSError | Stuck | Early),
            pause=lambda _count: 0.3,
            room=2**20,
            silence=SILENCE,
        )
        resumable = Resumable(self._connect, rules)
        async with Bridge(resumable, abort=resumable.abort, join=b"".join) as bridge:
            speaking = asyncio.create_task(self._speak(bridge))
            settled = 0
            async for end in bridge:
                self.drawn.finals.append((self._now(), settled, end))
                settled = end
            await speaking
        return self.drawn

    def _now(self) -> float:
        return time.monotonic() - self._begun

    async def _speak(self, bridge: Bridge[bytes, int]) -> None:
        for position in range(0, SECONDS * RATE, CHUNK):
            await asyncio.sleep(position / RATE - self._now())
            await bridge.send(bytes(CHUNK))
            self.drawn.received.append((self._now(), position + CHUNK))
        bridge.end()

    def _connect(self, position: int) -> Attempt[bytes, int]:
        number, aborted = len(self.drawn.sent), threading.Event()
        points: Points = []
        self.drawn.sent.append(points)

        def start(audio: Iterator[bytes]) -> Iterator[int]:
            received = settled = position
            due: deque[tuple[float, int]] = deque()
            for chunk in audio:
                points.append((self._now(), received))
                received += len(chunk)
                points.append((self._now(), received))
                if number == 0 and received >= BREAKS_AT:
                    raise ConnectionResetError("the connection broke")
                if number == 1 and received >= STOPS_AT:
                    aborted.wait()
                    return
                if received - settled >= FINAL:
                    settled += FINAL
                    due.append((self._now() + FINAL_DELAY, settled))
                while due and due[0][0] <= self._now():
                    yield due.popleft()[1]
            yield received

        return Attempt(start, aborted.set)


def draw(drawn: Drawn) -> str:
    left, top, width, height, longest = 60, 40, WIDTH - 90, 330, drawn.finals[-1][0] + 0.3

    def place(seconds: float, position: int) -> str:
        return f"{left + width * seconds / longest:.1f},{top + height * (1 - position / (SECONDS * RATE)):.1f}"

    def line(points: Points, colour: str, stroke: float, dashes: str = "") -> str:
        path = " ".join(place(*point) for point in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{stroke}" {dashes}/>'

    parts = [text(10, 22, "Positions in the audio over time: what the client sent, and what each connection got")]
    for second in range(0, SECONDS + 1, 2):
        y = float(place(0, second * RATE).partition(",")[2])
        parts += [f'<path d="M{left} {y}h{width}" stroke="#eee"/>', text(left - 6, y + 4, f"{second} s", "end")]
    for second in range(0, int(longest) + 1, 2):
        parts.append(text(float(place(second, 0).partition(",")[0]), top + height + 18, f"{second} s", "middle"))
    parts.append(line(drawn.received, OTHER, 6))
    parts += [line(points, colour, 2.5) for points, colour in zip(drawn.sent, COLOURS, strict=False) if points]
    for when, begin, end in drawn.finals:
        parts.append(line([(when, begin), (when, end)], SERVICE, 2, 'stroke-dasharray="2 3"'))
        at = 'cx="{}" cy="{}"'.format(*place(when, end).split(","))
        parts.append(f'<circle {at} r="4" fill="{SERVICE}"/>')
    legend = [("received from the client", OTHER), ("a final, and the audio that it settles", SERVICE)]
    fates = ("first connection: breaks", "second: stops answering, is replaced after a second", "third: to the end")
    legend += list(zip(fates, COLOURS, strict=True))
    for row, (label, colour) in enumerate(legend):
        y = top + height + 42 + 20 * row
        parts += [f'<rect x="{left}" y="{y - 10}" width="14" height="10" fill="{colour}"/>', text(left + 22, y, label)]
    return svg(top + height + 50 + 20 * len(legend), parts)


def main() -> None:
    (RESULTS / "break.svg").write_text(draw(asyncio.run(Run().stream())))


if __name__ == "__main__":
    main()
