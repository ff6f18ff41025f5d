"""What does a chunk cost, next to what it must cost: the SDK alone, and FastAPI alone?

Method: 200 sessions, 100 ms chunks at the pace of speech, each answered by the upstream. The service and the floors
under it run in turn, each in a process of its own, five seconds each, five rounds; the load and the upstream are
processes too, on the same machine. CPU time is that of the measured process, by the kernel. A round is
compared with itself only: whatever else the machine did is in all of its figures.

    python -m tests.bench.cost

Last result: `results/cost.md`.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.bench.report import keep, spread, table
from tests.bench.subjects import Subject, alone, echo, has_nginx, nginx, service, upstream

if TYPE_CHECKING:
    from tests.bench.load import Reading

SESSIONS = 200
ROUNDS = 5


def ratios(rounds: list[dict[str, Reading]]) -> list[float]:
    """Return what the service cost in each round, in floors: SDK alone and FastAPI alone together are one."""
    return [each["service"].cpu / (each["SDK alone"].cpu + each["FastAPI alone"].cpu) for each in rounds]


def measure(subjects: list[Subject]) -> dict[str, Reading]:
    return {subject.name: subject.measure(sessions=SESSIONS) for subject in subjects}


def main() -> None:
    with upstream() as far, service(far) as bridge, echo() as web, service(far, path="/relay", name="relay") as relay:
        subjects = [bridge, alone(far), web, relay]
        if has_nginx():
            with nginx(far) as proxy:
                rounds = [measure([*subjects, proxy]) for _ in range(ROUNDS)]
        else:
            rounds = [measure(subjects) for _ in range(ROUNDS)]
    rows = []
    for name in rounds[0]:
        readings = [each[name] for each in rounds]
        rows.append(
            [
                name,
                spread([reading.cpu for reading in readings]),
                *(f"{statistics.median(getattr(r, what) for r in readings):.2f}" for what in ("p50", "p99", "worst")),
                str(sum(reading.lost for reading in readings)),
            ]
        )
    headings = ["", "CPU per chunk, us", "p50, ms", "p99, ms", "worst, ms", "lost"]
    text = (
        table(headings, rows) + f"\nThe service, in floors (SDK alone + FastAPI alone): {spread(ratios(rounds), 2)}.\n"
    )
    keep("cost", __doc__.partition("\n")[0], text, [{name: asdict(r) for name, r in each.items()} for each in rounds])


if __name__ == "__main__":
    main()
