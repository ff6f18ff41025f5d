"""How long those in the queue will wait: a guess from how long streams last. Pure."""

from __future__ import annotations

from heapq import heapify, heapreplace
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

REMEMBERED = 20  # streams that ended last. A guess: enough for a mean, and soon forgotten when streams change
UNKNOWN_SECONDS = 60.0  # how long a stream lasts, as long as none has ended. A guess
OVERDUE = 0.1  # of the mean: what is still to come of a stream that has lasted longer than that. A guess


def waits(places: int, leases: int, ages: Sequence[float], lasted: Sequence[float]) -> list[float]:
    """Return the wait in seconds at each place, the first one's first.

    `ages` are the seconds for which each lease has been held, `lasted` those of the streams that ended last. Each
    stream is taken to last for their mean, and the one that follows it likewise.
    """
    mean = fmean(lasted) if lasted else UNKNOWN_SECONDS
    ends = [max(mean - age, OVERDUE * mean) for age in ages] + [0.0] * (leases - len(ages))
    heapify(ends)
    found = []
    for _ in range(places):
        found.append(ends[0])
        heapreplace(ends, ends[0] + mean)
    return found
