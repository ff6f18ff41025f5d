"""How many sessions do two workers carry, next to one?

Method: `speechbridge serve --workers 1` and `--workers 2` in turn, 100 ms chunks in real time, each answered. A count
of sessions is met if nothing is lost and the p99 of all round trips is under 100 ms, in one of two tries of five
seconds. The most is found as `speechbridge capacity` finds it, to a fortieth.

The load and the upstream are processes on the same machine, and take CPU time, too. Where they have no cores of their
own, as on a machine of two, they compete with the second worker. There give SHARE, such as 0.4: each worker is held to
this share of its core, by a cgroup, and the rest is for load and upstream. That takes root. The CPU time of a chunk is
reported, too, from which follows what two whole cores would carry.

    python -m tests.bench.workers [SHARE]

Last result: `results/workers.md`.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from speechbridge.cli.capacity.climb import climb
from tests.bench.quota import held_to
from tests.bench.report import keep
from tests.bench.sessions import BOUND
from tests.bench.subjects import METADATA, Subject, upstream
from tests.helpers.service import STREAM
from tests.helpers.tables import table
from tests.helpers.workers import service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.testing.load import Reading

WORKERS = (1, 2)
MOST = 5000  # sessions
CLOSE = 1.025


@contextmanager
def running(upstream_url: str, number: int, share: float | None) -> Iterator[Subject]:
    """Run a service with so many workers. Its CPU time is the sum over the workers and their parent.

    Each worker is held to a share of its core, if there is one.
    """
    settings = {
        "SPEECHBRIDGE_REVAI_URL": upstream_url,
        "SPEECHBRIDGE_MAX_SESSIONS": "5000",
        "SPEECHBRIDGE_LOG_LEVEL": "info",
    }
    with service(number, **settings) as one, ExitStack() as stack:
        workers = one.workers().values() or [one.process.pid]  # a single worker is the process itself
        if share is not None:
            for pid in workers:
                stack.enter_context(held_to(share, pid))
        yield Subject(f"{number} workers", [f"{one.url}{STREAM}&{METADATA}"], [*{one.process.pid, *workers}])


def most(subject: Subject) -> tuple[int, dict[int, Reading]]:
    """Return the most sessions that are met, and all readings."""
    return climb(lambda sessions: subject.measure(sessions=sessions), MOST, BOUND, CLOSE)


def main(share: float | None = None) -> str:
    carried: dict[int, int] = {}
    found: dict[int, dict[int, Reading]] = {}
    with ExitStack() as stack:
        far = stack.enter_context(upstream())
        for number in WORKERS:
            with running(far, number, share) as subject:
                carried[number], found[number] = most(subject)
    rows = []
    for number, readings in found.items():
        for count, each in readings.items():
            values = (f"{each.cpu:.0f}", f"{each.cores:.2f}", f"{each.p50:.2f}", f"{each.p99:.1f}", str(each.lost))
            rows.append([str(number), str(count), *values])
    alike = max(count for count in found[1] if 2 * count in found[2] and 2 * count <= carried[2])  # of each worker
    by_cpu = {number: readings[alike * number].cpu for number, readings in found.items()}
    text = (
        f"{'' if share is None else f'Each worker is held to {share:g} of its core. '}"
        f"One worker: {carried[1]} sessions with a p99 under 100 ms; two: {carried[2]}, that is"
        f" {carried[2] / carried[1]:.2f} times as many. A chunk takes {by_cpu[1]:.0f} us of one worker, and"
        f" {by_cpu[2]:.0f} us of two and their parent: two whole cores carry {2 * by_cpu[1] / by_cpu[2]:.2f} times what"
        " one carries.\n"
    )
    headings = ["workers", "sessions", "CPU per chunk, us", "cores", "p50, ms", "p99, ms", "lost"]
    figures = {number: {count: asdict(each) for count, each in one.items()} for number, one in found.items()}
    return keep("workers", __doc__.partition("\n")[0], text, figures, table(headings, rows))


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
