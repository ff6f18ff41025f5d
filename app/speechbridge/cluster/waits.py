"""Estimates how long clients in the queue will wait, from how long streams last. Pure."""

from __future__ import annotations

from heapq import heapify, heapreplace
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

REMEMBERED = 20  # the latest ended streams that count. A guess: enough for a mean, and quick to follow a change
UNKNOWN_SECONDS = 60.0  # assumed duration of a stream while none has ended yet. A guess
OVERDUE = 0.1  # share of the mean that a stream is assumed to last still, once it is older than the mean. A guess


def waits(places: int, leases: int, ages: Sequence[float], lasted: Sequence[float]) -> list[float]:
    """Return the estimated wait in seconds at each place of the queue, in order.

    `ages` are the seconds for which each lease has been held, `lasted` the durations of the streams that ended last.
    Each stream, running or waiting, is assumed to last for the mean of `lasted`.
    """
    mean = fmean(lasted) if lasted else UNKNOWN_SECONDS
    ends = [max(mean - age, OVERDUE * mean) for age in ages] + [0.0] * (leases - len(ages))
    heapify(ends)
    found = []
    for _ in range(places):
        found.append(ends[0])
        heapreplace(ends, ends[0] + mean)
    return found
