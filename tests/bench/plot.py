"""Draw the results of two benchmarks: `results/cost.svg` and `results/sessions.svg`.

python -m tests.bench.plot
"""

from __future__ import annotations

import json
import statistics
from math import log10
from typing import Any

from tests.bench.report import RESULTS

WIDTH = 720
INK, SERVICE, FLOOR, OTHER = "#333", "#3b6ea5", "#c9a227", "#b0b0b0"


def svg(height: int, parts: list[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{INK}">{words}</text>'


def bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>'


def cost(rounds: list[dict[str, Any]]) -> str:
    """Draw the CPU time for a chunk: a bar for the service, and a stacked bar for its two floors."""
    cpu = {name: statistics.median(each[name]["cpu"] for each in rounds) for name in rounds[0]}
    scale = 380 / max(cpu.values())
    parts = [text(10, 22, "CPU time for a 100 ms chunk and its answer, us; 200 sessions")]
    rows: list[tuple[str, list[tuple[float, str]]]] = []
    for where in ("", ", on one core"):
        rows.append((f"service{where}", [(cpu[f"service{where}"], SERVICE)]))
        floors = [(cpu[f"SDK alone{where}"], FLOOR), (cpu[f"FastAPI alone{where}"], OTHER)]
        rows.append((f"SDK alone + FastAPI alone{where}", floors))
        cpu = {name: value for name, value in cpu.items() if name not in _named(where)}
    rows += [(name, [(value, OTHER)]) for name, value in cpu.items()]
    for row, (name, values) in enumerate(rows):
        y, x = 38 + 26 * row, 270.0
        parts.append(text(x - 8, y + 14, name, "end"))
        for value, colour in values:
            parts.append(bar(x, y, value * scale, colour))
            x += value * scale
        parts.append(text(x + 6, y + 14, f"{sum(value for value, _ in values):.0f}"))
    return svg(48 + 26 * len(rows), parts)


def _named(where: str) -> set[str]:
    return {f"{name}{where}" for name in ("service", "SDK alone", "FastAPI alone")}


def sessions(ways: dict[str, dict[str, Any]]) -> str:
    """Draw the p99 round trip over the number of sessions."""
    most = max(int(count) for readings in ways.values() for count in readings)
    left, top, width, height = 60, 40, WIDTH - 200, 240

    def place(count: int, ms: float) -> tuple[float, float]:
        decades = min(max(log10(ms), -1), 3) + 1  # 0.1 ms to 1 s
        return left + width * count / most, top + height * (1 - decades / 4)

    parts = [text(10, 22, "p99 round trip of a 100 ms chunk over sessions, load and upstream on the same cores")]
    for ms in (0.1, 1, 10, 100, 1000):
        _, y = place(0, ms)
        parts += [f'<path d="M{left} {y:.0f}h{width}" stroke="#ddd"/>', text(left - 6, y + 4, f"{ms:g} ms", "end")]
    for count in range(0, most + 1, 100):
        x, _ = place(count, 1)
        parts.append(text(x, top + height + 18, str(count), "middle"))
    for (way, readings), colour in zip(ways.items(), (SERVICE, FLOOR), strict=True):
        points = [place(int(count), reading["p99"]) for count, reading in readings.items()]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
            text(points[-1][0] + 8, points[-1][1] + 4, way.partition(",")[0]),
        ]
    return svg(top + height + 30, parts)


def main() -> None:
    for name, draw in (("cost", cost), ("sessions", sessions)):
        (RESULTS / f"{name}.svg").write_text(draw(json.loads((RESULTS / f"{name}.json").read_text())))


if __name__ == "__main__":
    main()
