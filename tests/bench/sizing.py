"""How much memory and CPU a live stream takes, in the service and in the recognizer behind it: for docs/deployment.md.

python -m tests.bench.sizing [STREAMS] [SECONDS]
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from speechbridge.testing.load import cpu_seconds
from tests.bench.hour import resident
from tests.bench.live import crowd, peak, recognizer
from tests.bench.report import keep
from tests.helpers.command import serving, url_in
from tests.helpers.tables import table


@dataclass(frozen=True)
class Cost:
    """What a process took: MB after the start, MB at most, and the share of a core for each live stream."""

    idle: float
    peak: float
    cpu: float


def measure(streams: int, seconds: float) -> dict[str, Cost]:
    with (
        recognizer("--streams", f"{streams}") as (url, recognizing),
        serving(SPEECHBRIDGE_RECOGNIZER_URL=url) as (service, announced),
    ):
        pids = {"the service": service.pid, "the recognizer": recognizing}
        idle = {name: resident(pid) for name, pid in pids.items()}
        began = {name: cpu_seconds(pid) for name, pid in pids.items()}
        took = asyncio.run(_speak(url_in(announced), recognizing, streams, seconds))
        return {
            name: Cost(idle[name], peak(pid), (cpu_seconds(pid) - began[name]) / took / streams)
            for name, pid in pids.items()
        }


async def _speak(url: str, pid: int, streams: int, seconds: float) -> float:
    """Run live streams; return how many seconds they took."""
    begun = asyncio.get_running_loop().time()
    await crowd(url, pid, streams, seconds)
    return asyncio.get_running_loop().time() - begun


def main() -> None:
    streams, seconds = int(sys.argv[1]) if sys.argv[1:] else 16, float(sys.argv[2]) if sys.argv[2:] else 60.0
    found = measure(streams, seconds)
    rows = [[name, f"{cost.idle:.0f}", f"{cost.peak:.0f}", f"{100 * cost.cpu:.1f}"] for name, cost in found.items()]
    head = ["", "MB at the start", f"at most, with {streams} streams", "% of a core for each"]
    keep("sizing", "What does a live stream take?", table(head, rows), {n: vars(c) for n, c in found.items()})


if __name__ == "__main__":
    main()
