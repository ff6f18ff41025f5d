"""Do ten thousand sessions leave anything behind? Threads, descriptors and memory of a real service, before and after.

Method: the service and a scripted upstream, each in a process of its own; clients connect, stream and leave, 20 at a
time, a tenth of them by aborting the connection. After every 500 sessions the service's /proc is read. What is
allocated once is allocated in the first thousands of sessions; over the last 2,000 the resident memory should be flat.

    python -m tests.bench.cycles [TOTAL]

Last result: `results/cycles.md`.
"""

from __future__ import annotations

import asyncio
import sys
import time

from websockets.asyncio.client import connect

from tests.bench.crowd import upstream
from tests.bench.report import keep
from tests.helpers.command import serving, url_in
from tests.helpers.processes import descriptors, status
from tests.helpers.service import STREAM
from tests.helpers.tables import table

AT_ONCE = 20
EVERY = 500


def state(pid: int) -> tuple[int, int, int]:
    """Return threads, descriptors and resident KiB of a process."""
    counted = status(pid)
    return counted["Threads"], descriptors(pid), counted["VmRSS"]


async def cycle(url: str, *, abruptly: bool) -> None:
    async with connect(url + STREAM, compression=None) as socket:
        await socket.recv()
        await socket.send(bytes(3200))
        await socket.recv()
        if abruptly:
            socket.transport.abort()
            return
        await socket.send("EOS")
        await socket.wait_closed()
        assert socket.close_code == 1000


async def run(url: str, pid: int, total: int) -> tuple[bool, str]:
    begun, readings, rows = time.monotonic(), [], []
    for done in range(0, total, EVERY):
        for batch in range(done, done + EVERY, AT_ONCE):
            await asyncio.gather(*(cycle(url, abruptly=n % 10 == 0) for n in range(batch, batch + AT_ONCE)))
        await asyncio.sleep(1)  # the threads of the ended sessions stop
        reading = threads, descriptors, resident = state(pid)
        readings.append(reading)
        rows.append([str(value) for value in (done + EVERY, threads, descriptors, resident)])
        print(*rows[-1])
    last = [resident for _, _, resident in readings[-2000 // EVERY - 1 :]]
    grown = max(last) - last[0]
    flat = readings[-1][0] <= readings[0][0] and readings[-1][1] <= readings[0][1] and grown < last[0] * 0.01
    answer = f"""
{total:,} sessions in {time.monotonic() - begun:.0f} s; resident memory over the last 2,000 from {last[0]:,} to
{max(last):,} KiB ({grown / last[0]:+.2%}). {"All flat." if flat else "NOT flat."}
"""
    details = table(["cycles", "threads", "descriptors", "resident KiB"], rows)
    return flat, keep("cycles", __doc__.partition("\n")[0], answer, readings, details)


def main(total: int = 10_000) -> tuple[bool, str]:
    with (
        upstream() as upstream_url,
        serving(SPEECHBRIDGE_REVAI_URL=upstream_url, SPEECHBRIDGE_LOG_LEVEL="error") as (process, announced),
    ):
        return asyncio.run(run(url_in(announced), process.pid, total))


if __name__ == "__main__":
    sys.exit(not main(*map(int, sys.argv[1:]))[0])
