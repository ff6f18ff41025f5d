"""How soon do a thousand readers have each final, and do they delay their speaker?

Method: `speechbridge serve`, which keeps to one core, with a speech SDK that answers each chunk with a final at once. A
speaker sends a chunk every 0.2 s, in turn alone and to a thousand readers, five rounds. The readers are one process and
the speaker is another, both on the other cores. The speaker has a higher priority than the readers, if this process may
set one: on two cores, the readers would otherwise delay it on its own core.

    python -m tests.bench.readers

Last result: `results/readers.md`.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
from contextlib import suppress

from websockets.asyncio.client import connect

from tests.bench.report import keep, spread
from tests.helpers.command import serving, url_in
from tests.helpers.readers import ECHOES, READERS, SHARED, delays_of, p99, reading, speak
from tests.helpers.tables import table

FINALS, EVERY = 150, 0.2  # seconds
ROUNDS = 5


async def rounds(url: str) -> tuple[list[list[float]], list[list[float]], list[float]]:
    """Return the delays of the speaker's finals, alone and with readers, and the p99 of the readers' delays."""
    alone, read, of_readers = [], [], []
    for _ in range(ROUNDS):
        async with connect(url + SHARED, proxy=None, compression=None) as speaker:
            await speaker.recv()
            alone.append(await speak(speaker, FINALS, EVERY))
        async with connect(url + SHARED, proxy=None, compression=None) as speaker:
            token = json.loads(await speaker.recv())["read"]
            async with reading(url, token) as readers:
                os.setpriority(os.PRIO_PROCESS, readers.pid, 5)
                read.append(await speak(speaker, FINALS, EVERY))
                of_readers.append(p99([delay for each in await delays_of(readers) for delay in each]))
    return alone, read, of_readers


def main() -> str:
    # Nobody reads its log: a full pipe would stop it.
    with serving(SPEECHBRIDGE_START=ECHOES, SPEECHBRIDGE_LOG_LEVEL="warning") as (process, announced):
        os.sched_setaffinity(0, os.sched_getaffinity(0) - os.sched_getaffinity(process.pid) or {0})
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        alone, read, of_readers = asyncio.run(rounds(url_in(announced)))
    rows = [
        [
            name,
            spread([1000 * statistics.median(each) for each in delays], 2),
            spread([1000 * p99(each) for each in delays], 2),
        ]
        for name, delays in (("alone", alone), (f"with {READERS:,} readers", read))
    ]
    text = table(["the speaker's finals", "median, ms", "p99, ms"], rows)
    ratios = [p99(with_readers) / p99(without) for with_readers, without in zip(read, alone, strict=True)]
    text += f"\nThe p99 with readers is {spread(ratios, 2)} of that without. The readers have 99 of 100 finals within"
    text += f" {spread([1000 * each for each in of_readers])} ms.\n"
    return keep("readers", __doc__.partition("\n")[0], text, {"alone": alone, "read": read, "readers": of_readers})


if __name__ == "__main__":
    main()
