"""What does the journal cost, which lets streams survive their process?

Method: resumable streams of 100 ms chunks in real time, each answered by the upstream, in a service without Redis and
in one with it, in turn, each kept to one core, five seconds each, five rounds. CPU time is that of the service's
process.

    python -m tests.bench.journal

Last result: `results/journal.md`.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tests.bench.report import keep, spread
from tests.bench.subjects import cores, service, upstream
from tests.helpers.redis import redis_server
from tests.helpers.service import STREAM
from tests.helpers.tables import table

SESSIONS = 100
ROUNDS = 5


def main() -> str:
    path, core = f"{STREAM}&resume=true", cores()[:1]
    with ExitStack() as stack:
        url = stack.enter_context(upstream())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(redis_server(folder))
        subjects = [
            stack.enter_context(service(url, cores=core, path=path, name="without Redis")),
            stack.enter_context(service(url, cores=core, path=path, name="with the journal", redis_url=redis.url)),
        ]
        rounds = [{subject.name: subject.measure(sessions=SESSIONS) for subject in subjects} for _ in range(ROUNDS)]
    without, kept = ([each[subject.name] for each in rounds] for subject in subjects)
    rows = [
        [
            subject.name,
            spread([each.cpu for each in readings]),
            *(f"{statistics.median(getattr(each, what) for each in readings):.2f}" for what in ("p50", "p99")),
            str(sum(each.lost for each in readings)),
        ]
        for subject, readings in zip(subjects, (without, kept), strict=True)
    ]
    text = table(["", "CPU per chunk, us", "p50, ms", "p99, ms", "lost"], rows)
    ratios = [kept.cpu / without.cpu for kept, without in zip(kept, without, strict=True)]
    text += f"\nWith the journal a chunk costs {spread(ratios, 2)} of what it costs without.\n"
    found = [{name: asdict(reading) for name, reading in each.items()} for each in rounds]
    return keep("journal", __doc__.partition("\n")[0], text, found)


if __name__ == "__main__":
    main()
