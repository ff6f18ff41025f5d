"""Run the benchmarks of docs/performance.md one after the other, draw the results, and write them into that page."""

from __future__ import annotations

import argparse
import platform
import re
from pathlib import Path

from tests.bench import chunks, cost, crowd, cycles, handover, leavers, plot, sessions
from tests.bench.subjects import cores

PAGE = Path("docs/performance.md")
PART = re.compile(r"(?<=<!-- written by make bench -->\n).*(?=<!-- end -->)", re.DOTALL)


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tests.bench", description=f"{__doc__} Takes a quarter of an hour."
    ).parse_args()
    found = [
        (
            "**What a chunk costs**, 200 sessions, 100 ms each:",
            cost.main(),
            "![CPU time](../tests/bench/results/cost.svg)",
        ),
        ("**How many sessions:**", sessions.main(), "![p99 round trips](../tests/bench/results/sessions.svg)"),
        ("**What a second of audio costs**, by the size of its chunks:", chunks.main(), ""),
        ("**The bridge alone**, 200 sessions, 10 items a second each:", handover.main(), ""),
        ("**Comings and goings:**", "\n".join([crowd.main(), cycles.main()[1], leavers.main()]), ""),
    ]
    plot.main()
    write(found)


def write(found: list[tuple[str, str, str]]) -> None:
    """Put the results into the page: title, answer and picture of each."""
    text = f"\nOn {len(cores())} cores, Python {platform.python_version()}, {platform.system()}.\n\n"
    text += "".join(f"{part.strip()}\n\n" for parts in found for part in parts if part)
    PAGE.write_text(PART.sub(lambda _: text, PAGE.read_text()))


if __name__ == "__main__":
    main()
