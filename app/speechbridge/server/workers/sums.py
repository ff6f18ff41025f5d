"""Adds up the metrics of all workers. Pure.

Counters and histograms are sums, and include those of dead workers. Most gauges are sums over the running workers; the
exceptions are below.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from speechbridge.server.metrics import Family, Sample

LARGEST = {
    "speechbridge_account_streams_limit",
    "speechbridge_build_info",
    "speechbridge_queue_deepest_items",
    "speechbridge_slots",
    "speechbridge_upstream_circuit_open",
    "process_max_fds",
}
LEAST = {"process_start_time_seconds"}
LASTING = {"counter", "histogram"}

Key = tuple[str, tuple[tuple[str, str], ...]]  # of a sample: its name and its labels


def _key(sample: Sample) -> Key:
    return sample[0], tuple(sorted(sample[1].items()))


class Sums:
    """The latest report of each worker, and the counters of dead workers."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}  # of the dead, by name
        self._reported: dict[str, list[Family]] = {}  # by worker

    def reported(self, worker: str, families: list[Family]) -> None:
        """Replace a worker's last report."""
        self._reported[worker] = families

    def died(self, worker: str) -> None:
        """Keep a dead worker's counters and histograms, and drop its gauges."""
        lasting = [family for family in self._reported.pop(worker, []) if family[2] in LASTING]
        self._families = {family[0]: family for family in _added([[*self._families.values()], lasting])}

    def total(self) -> list[Family]:
        """Return the sums."""
        return _added([[*self._families.values()], *self._reported.values()])


def _added(reports: Iterable[list[Family]]) -> list[Family]:
    heads: dict[str, tuple[str, str]] = {}
    samples: dict[str, dict[Key, float]] = {}
    for report in reports:
        for name, what, kind, found in report:
            heads.setdefault(name, (what, kind))
            known, rule = samples.setdefault(name, {}), _rule(name)
            for sample in found:
                key = _key(sample)
                known[key] = rule(known[key], sample[2]) if key in known else sample[2]
    return [
        (name, *heads[name], [(sample, dict(labels), value) for (sample, labels), value in found.items()])
        for name, found in samples.items()
    ]


def _rule(name: str) -> Callable[[float, float], float]:
    if name in LARGEST:
        return max
    return min if name in LEAST else add
