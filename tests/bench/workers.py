"""How many sessions do two workers carry, next to one?

Method: `speechbridge serve --workers 1` and `--workers 2` in turn, 100 ms chunks in real time, each answered. A count
of sessions is met if nothing is lost and the p99 of all round trips is under 100 ms, in one of two tries of five
seconds. The count is raised by an eighth of itself until it is not met, and then found by bisection. The load and the
upstream are processes on the same machine: on two cores they compete with the workers. Therefore the CPU time of a
chunk is reported too, from which follows what two whole cores would carry.

    python -m tests.bench.workers [FIRST]

Last result: `results/workers.md`.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.bench.report import keep
from tests.bench.sessions import is_met
from tests.bench.subjects import METADATA, Subject, upstream
from tests.helpers.service import STREAM
from tests.helpers.tables import table
from tests.helpers.workers import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.testing.load import Reading

FIRST = 200
WORKERS = (1, 2)
FINEST = 40  # the bisection ends when a count is known to one part in so many


@contextmanager
def running(upstream_url: str, number: int) -> Iterator[Subject]:
    """Run a service with so many workers. Its CPU time is the sum over the workers and their parent."""
    settings = {
        "SPEECHBRIDGE_REVAI_URL": upstream_url,
        "SPEECHBRIDGE_MAX_SESSIONS": "5000",
        "SPEECHBRIDGE_LOG_LEVEL": "info",
    }
    with service(number, **settings) as one:
        pids = [one.process.pid, *one.workers().values()]
        yield Subject(f"{number} workers", [f"{one.url}{STREAM}&{METADATA}"], pids)


def climb(subject: Subject, first: int) -> dict[int, Reading]:
    """Measure more and more sessions until a count is not met, then counts in between; return each count's reading."""
    readings: dict[int, Reading] = {}

    def carries(count: int) -> bool:
        reading = subject.measure(sessions=count)
        if not is_met(reading):
            reading = min(reading, subject.measure(sessions=count), key=lambda each: each.p99)
        readings[count] = reading
        return is_met(reading)

    carried, count = 0, first
    while carries(count):
        carried, count = count, count + max(25, count // 8)
    while count - carried > count // FINEST:
        between = (carried + count) // 2
        carried, count = (between, count) if carries(between) else (carried, between)
    return dict(sorted(readings.items()))


def most(readings: dict[int, Reading]) -> int:
    return max((count for count, each in readings.items() if is_met(each)), default=0)


def main(first: int = FIRST) -> str:
    found: dict[int, dict[int, Reading]] = {}
    with ExitStack() as stack:
        url = stack.enter_context(upstream())
        for number in WORKERS:
            with running(url, number) as subject:
                found[number] = climb(subject, first * number)
    rows = []
    for number, readings in found.items():
        for count, each in readings.items():
            values = (f"{each.cpu:.0f}", f"{each.cores:.2f}", f"{each.p50:.2f}", f"{each.p99:.1f}", str(each.lost))
            rows.append([str(number), str(count), *values])
    carried = {number: most(readings) for number, readings in found.items()}
    by_cpu = {number: readings[first * number].cpu for number, readings in found.items()}
    text = (
        f"One worker: {carried[1]} sessions with a p99 under 100 ms; two: {carried[2]}, that is"
        f" {carried[2] / max(1, carried[1]):.2f} times as many. A chunk takes {by_cpu[1]:.0f} us of one worker, and"
        f" {by_cpu[2]:.0f} us of two and their parent: two whole cores carry {2 * by_cpu[1] / by_cpu[2]:.2f} times what"
        " one carries.\n"
    )
    headings = ["workers", "sessions", "CPU per chunk, us", "cores", "p50, ms", "p99, ms", "lost"]
    figures = {number: {count: asdict(each) for count, each in one.items()} for number, one in found.items()}
    return keep("workers", __doc__.partition("\n")[0], text, figures, table(headings, rows))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
