"""Run every script, one after the other; draw and write down in the README what they found.

python -m tests.bench
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from tests.bench import chunks, cost, crowd, cycles, handover, leavers, plot, sessions
from tests.bench.subjects import cores

README = Path("README.md")
PART = re.compile(r"(?<=<!-- written by make bench -->\n).*(?=<!-- end -->)", re.DOTALL)


def main() -> None:
    found = {
        "": cost.main(),
        "How many sessions": sessions.main(),
        "The size of a chunk, and what a second of audio costs in it": chunks.main(),
        "The bridge alone, 200 sessions, 10 items a second each": handover.main(),
        "A crowd": crowd.main(),
        "Comings and goings": cycles.main()[1],
        "Bad ends": leavers.main(),
    }
    plot.main()
    parts = [f"On {len(cores())} cores, Python {platform.python_version()}, {platform.system()}:\n"]
    for title, answer in found.items():
        parts += ([f"**{title}.**\n"] if title else []) + [f"{answer.strip()}\n"]
        if not title:
            parts.append("![CPU time for a chunk](tests/bench/results/cost.svg)\n")
    README.write_text(PART.sub(lambda _: "\n" + "\n".join(parts) + "\n", README.read_text()))


if __name__ == "__main__":
    main()
