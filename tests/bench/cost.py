"""What does a chunk cost, next to what it must cost: the SDK alone, and FastAPI alone?

Method: 200 sessions, 100 ms chunks in real time, each answered by the upstream. The service and its two floors (the
SDK alone, FastAPI alone) run in turn, each in a process of its own, five seconds each, five rounds; the load and the
upstream are processes on the same machine. CPU time is that of the measured process, as the kernel counts it. Figures
are compared within a round only: other work on the machine slows all of a round alike.

    python -m tests.bench.cost

Last result: `results/cost.md`.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.bench.report import keep, spread
from tests.bench.subjects import alone, cores, echo, has_nginx, nginx, service, upstream
from tests.helpers.tables import table

if TYPE_CHECKING:
    from speechbridge.testing.load import Reading

SESSIONS = 200
ROUNDS = 5
WEB = "FastAPI alone"
ON_ONE = ", on one core"


def ratios(rounds: list[dict[str, Reading]], where: str = "") -> list[float]:
    """Return the service's CPU time in each round, divided by the sum of SDK alone and FastAPI alone."""
    return [each["service" + where].cpu / (each["SDK alone" + where].cpu + each[WEB + where].cpu) for each in rounds]


def main() -> str:
    core = cores()[0]
    with ExitStack() as stack:
        url = stack.enter_context(upstream())
        subjects = [
            stack.enter_context(service(url)),
            alone(url),
            stack.enter_context(echo(name=WEB)),
            stack.enter_context(service(url, cores=[core], name="service" + ON_ONE)),
            alone(url, core=core, name="SDK alone" + ON_ONE),
            stack.enter_context(echo(core=core, name=WEB + ON_ONE)),
            stack.enter_context(service(url, path="/relay", name="the service's /relay, no SDK")),
        ]
        if has_nginx():
            subjects.append(stack.enter_context(nginx(url)))
        rounds = [{subject.name: subject.measure(sessions=SESSIONS) for subject in subjects} for _ in range(ROUNDS)]
    rows = []
    for name in rounds[0]:
        readings = [each[name] for each in rounds]
        medians = (statistics.median(getattr(each, what) for each in readings) for what in ("p50", "p99", "worst"))
        lost = sum(each.lost for each in readings)
        rows.append([name, spread([each.cpu for each in readings]), *(f"{ms:.2f}" for ms in medians), str(lost)])
    text = table(["", "CPU per chunk, us", "p50, ms", "p99, ms", "worst, ms", "lost"], rows)
    text += f"""
The service in floors (SDK alone + FastAPI alone): {spread(ratios(rounds), 2)};
each of the three on one core: {spread(ratios(rounds, ON_ONE), 2)}.
"""
    return keep(
        "cost", __doc__.partition("\n")[0], text, [{name: asdict(r) for name, r in each.items()} for each in rounds]
    )


if __name__ == "__main__":
    main()
