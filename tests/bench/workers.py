"""How many sessions do two workers carry, next to one?

Method: `speechbridge serve --workers 1` and `--workers 2` in turn, 100 ms chunks at the pace of speech, each answered.
A count of sessions is met if nothing is lost and the p99 of all round trips is under 100 ms, in one of two tries of
five seconds. The count is raised by an eighth of itself until it is not met, and then found between the last two. The
load and the upstream are processes on the same machine: where there are no more than two cores, they take them from the
workers, so the CPU time of a chunk is given too. It says what two whole cores would carry: a second of a core by that
time, for a chunk every 0.1 s.

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
FINEST = 40  # to this part of itself a count is found


@contextmanager
def running(far: str, number: int) -> Iterator[Subject]:
    """Run a service with so many workers. Its CPU time is that of the workers and of their parent."""
    settings = {
        "SPEECHBRIDGE_REVAI_URL": far,
        "SPEECHBRIDGE_MAX_SESSIONS": "5000",
        "SPEECHBRIDGE_LOG_LEVEL": "info",
    }
    with service(number, **settings) as one:
        pids = [one.process.pid, *one.workers().values()]
        yield Subject(f"{number} workers", [f"{one.url}{STREAM}&{METADATA}"], pids)


def climb(subject: Subject, first: int) -> dict[int, Reading]:
    """Measure more and more sessions until they are too many, and then between the last two numbers."""
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
        far = stack.enter_context(upstream())
        for number in WORKERS:
            with running(far, number) as subject:
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
