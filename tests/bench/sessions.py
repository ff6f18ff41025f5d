"""How many sessions does a process carry, and how many do all cores together? What memory and threads does one take?

Method: 100 ms chunks in real time, each answered; the load and the upstream are processes on the same machine. A count
of sessions is met if nothing is lost and the p99 of all round trips is under 100 ms, in one of two tries of five
seconds. From 300 on the count is raised by 50 until it is not met. Each process keeps to a core of its own; one process
and one per core are measured with new processes. Memory is resident memory beyond that of the process with one session;
the upstream settles the audio every second, so up to 31 KiB of a session's memory is audio kept for a replay.

    python -m tests.bench.sessions

Last result: `results/sessions.md`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.bench.report import keep
from tests.bench.subjects import Subject, cores, service, upstream
from tests.helpers.tables import table

if TYPE_CHECKING:
    from speechbridge.testing.load import Reading

COUNTS = (1, 50, 200, 300)
STEP = 50
BOUND = 100.0  # ms


def is_met(reading: Reading) -> bool:
    return reading.lost == 0 and reading.p99 < BOUND


def climb(subject: Subject) -> dict[int, Reading]:
    """Measure more and more sessions, until a count is not met; return the reading for each count."""
    readings: dict[int, Reading] = {}
    count = COUNTS[0]
    while True:
        first = subject.measure(sessions=count)
        readings[count] = first if is_met(first) else min(first, subject.measure(sessions=count), key=lambda r: r.p99)
        if count >= COUNTS[-1] and not is_met(readings[count]):
            return readings
        count = next((more for more in COUNTS if more > count), count + STEP)


def share(readings: dict[int, Reading], count: int) -> tuple[float, float]:
    """Return the threads and KiB that each session takes, of so many."""
    one, many = readings[1], readings[count]
    return (many.threads - one.threads) / (count - 1), (many.resident - one.resident) / (count - 1)


def summary(name: str, readings: dict[int, Reading]) -> str:
    most = max((count for count, each in readings.items() if is_met(each)), default=0)
    count = COUNTS[-1]
    each, (threads, memory) = readings[count], share(readings, count)
    return (
        f"{name}: {most} sessions with a p99 under {BOUND:.0f} ms. With {count} the p99 is {each.p99:.0f} ms, "
        f"{each.lost} lost; a session takes {threads:.1f} threads and {memory:.0f} KiB.\n"
    )


def details(name: str, readings: dict[int, Reading]) -> str:
    rows = []
    for count, each in readings.items():
        threads, memory = share(readings, count) if count > 1 else (0.0, 0.0)
        values = (each.cpu, each.cores, each.p50, each.p99, each.worst)
        cells = [f"{value:.{digits}f}" for value, digits in zip(values, (0, 2, 2, 1, 0), strict=True)]
        rows.append([str(count), *cells, str(each.lost), f"{threads:.1f}", f"{memory:.0f}"])
    headings = ["sessions", "CPU per chunk, us", "cores", "p50, ms", "p99, ms", "worst, ms", "lost"]
    return f"{name}:\n\n{table([*headings, 'threads a session', 'KiB a session'], rows)}\n"


def main() -> str:
    with upstream() as url:
        with service(url, cores=cores()[:1]) as one:
            in_one = climb(one)
        with service(url, cores=cores()) as many:
            in_all = climb(many)
    ways = {"One process": in_one, f"One process a core, {len(cores())} of them": in_all}
    return keep(
        "sessions",
        __doc__.partition("\n")[0],
        "\n".join(summary(name, readings) for name, readings in ways.items()),
        {name: {n: asdict(each) for n, each in readings.items()} for name, readings in ways.items()},
        "".join(details(name, readings) for name, readings in ways.items()),
    )


if __name__ == "__main__":
    main()
