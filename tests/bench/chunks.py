"""What does a second of audio cost in chunks of 20, 100 and 250 ms?

Method: 200 sessions in real time, the same processes for each size, in turn, five rounds of five seconds. The upstream
answers every 100 ms of audio, or each chunk where a chunk is longer: a recognizer, too, answers at its own pace,
whatever the size of the chunks. CPU time is that of the service, as the kernel counts it, for one second of one
session's audio.

    python -m tests.bench.chunks

Last result: `results/chunks.md`.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict

from tests.bench.report import keep, spread
from tests.bench.subjects import cores, service, upstream
from tests.helpers.tables import table

SESSIONS = 200
ROUNDS = 5
SIZES = (20, 100, 250)  # milliseconds


def main() -> str:
    with upstream() as upstream_url, service(upstream_url, cores=[cores()[0]]) as bridge:
        rounds = [
            {size: bridge.measure(sessions=SESSIONS, chunk_ms=size, answer_ms=max(size, 100)) for size in SIZES}
            for _ in range(ROUNDS)
        ]
    rows = []
    for size in SIZES:
        readings = [each[size] for each in rounds]
        ratios = [each[size].cores / each[100].cores for each in rounds]
        medians = (statistics.median(getattr(each, what) for each in readings) for what in ("p50", "p99", "worst"))
        rows.append(
            [
                f"{size} ms",
                spread([1000 * each.cores / SESSIONS for each in readings], 2),
                spread(ratios, 2),
                *(f"{ms:.2f}" for ms in medians),
                str(sum(each.lost for each in readings)),
            ]
        )
    headings = ["chunks", "CPU per second of audio, ms", "next to 100 ms", "p50, ms", "p99, ms", "worst, ms", "lost"]
    figures = [{size: asdict(reading) for size, reading in each.items()} for each in rounds]
    return keep("chunks", __doc__.partition("\n")[0], table(headings, rows), figures)


if __name__ == "__main__":
    main()
