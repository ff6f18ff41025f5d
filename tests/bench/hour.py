"""Whether the recognizer's memory grows: an hour of speech, in streams of a minute, four at once, as fast as possible.

python -m tests.bench.hour [MINUTES]
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

from tests.bench.accuracy import transcribe
from tests.bench.live import recognizer
from tests.bench.report import keep
from tests.bench.voices import RATE, Speech, load
from tests.helpers.clip import READING, TWO_VOICES
from tests.helpers.processes import status
from tests.helpers.tables import table

AT_ONCE = 4
STREAM_SECONDS = 60.0
EVERY = 10.0  # minutes of audio between two measurements


def resident(pid: int) -> float:
    """Return a process' resident memory in MB."""
    return status(pid)["VmRSS"] / 1000


async def measure(url: str, pid: int, minutes: float) -> list[tuple[float, float]]:
    """Return pairs: minutes of audio, and the memory that was resident after them."""
    speech = np.concatenate([load(READING), np.zeros(RATE, np.float32), load(TWO_VOICES)])
    minute = Speech("a minute", "", np.resize(speech, int(STREAM_SECONDS * RATE)))
    done, found = 0.0, list[tuple[float, float]]()
    while done < minutes:
        await asyncio.gather(*(transcribe(url, minute) for _ in range(AT_ONCE)))
        done += AT_ONCE * STREAM_SECONDS / 60
        if not found or done >= found[-1][0] + EVERY or done >= minutes:
            found.append((done, resident(pid)))
            print(f"{done:.0f} minutes: {found[-1][1]:.0f} MB", file=sys.stderr)
    return found


def main() -> None:
    minutes = float(sys.argv[1]) if sys.argv[1:] else 60.0
    with recognizer() as (url, pid):
        found = asyncio.run(measure(url, pid, minutes))
    rows = [[f"{done:.0f}", f"{memory:.0f}"] for done, memory in found]
    keep("hour", "Does the recognizer's memory grow?", table(["minutes of audio", "memory, MB"], rows), found)


if __name__ == "__main__":
    main()
