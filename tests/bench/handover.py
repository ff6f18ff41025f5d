"""How long does an item take through the bridge alone, from the loop to the SDK's thread, and from there to the loop?

Method: one process, 200 bridges around an SDK that answers each item at once. Each bridge is sent 10 items a second, at
a phase of its own, on the service's event loop; there are no sockets. An item is the time at which it was sent. CPU
time is that of the whole process, for one item there and back. Five rounds of three seconds.

    python -m tests.bench.handover

Last result: `results/handover.md`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import uvloop

from syncbridge import Bridge, WorkerPool
from tests.bench.report import keep, spread
from tests.helpers.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = 200
PERIOD = 0.1  # seconds between two items of a session
SECONDS = 3.0
ROUNDS = 5


@dataclass(frozen=True)
class Crossing:
    """Milliseconds, of all items of a round."""

    p50: float
    p99: float
    worst: float


class Crossings:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def record(self, since: float) -> float:
        """Record an item that was sent at `since` and has arrived now; return the time."""
        now = time.perf_counter()
        self.seconds.append(now - since)
        return now

    def result(self) -> Crossing:
        ordered = sorted(self.seconds)
        return Crossing(*(1000 * ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99, 1.0)))


@dataclass(frozen=True)
class Round:
    to_sdk: Crossing
    to_loop: Crossing
    cpu: float  # microseconds for an item


async def measure() -> Round:
    to_sdk, to_loop = Crossings(), Crossings()

    def sdk(feed: Iterator[float]) -> Iterator[float]:
        for sent in feed:
            yield to_sdk.record(sent)

    async def read(bridge: Bridge[float, float]) -> None:
        async for sent in bridge:
            to_loop.record(sent)

    pool = WorkerPool(SESSIONS)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        bridges = [await stack.enter_async_context(Bridge(sdk, pool=pool)) for _ in range(SESSIONS)]
        for bridge in bridges:
            group.create_task(read(bridge))
        cpu, due, turn = time.process_time(), time.perf_counter(), 0
        until = due + SECONDS
        while due < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await bridges[turn % SESSIONS].send(time.perf_counter())
            turn, due = turn + 1, due + PERIOD / SESSIONS
        for bridge in bridges:
            bridge.end()
    assert len(to_loop.seconds) == turn
    return Round(to_sdk.result(), to_loop.result(), 1e6 * (time.process_time() - cpu) / turn)


def main() -> str:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rounds = [runner.run(measure()) for _ in range(ROUNDS)]
    rows = []
    for name, crossings in (
        ("loop to SDK", [each.to_sdk for each in rounds]),
        ("SDK to loop", [each.to_loop for each in rounds]),
    ):
        cells = (statistics.median(getattr(each, what) for each in crossings) for what in ("p50", "p99", "worst"))
        rows.append([name, *(f"{cell:.3f}" for cell in cells)])
    text = table(["", "p50, ms", "p99, ms", "worst, ms"], rows)
    text += f"\nCPU for an item there and back, us: {spread([each.cpu for each in rounds])}.\n"
    return keep("handover", __doc__.partition("\n")[0], text, [asdict(each) for each in rounds])


if __name__ == "__main__":
    main()
