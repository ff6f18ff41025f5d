"""The CPU that other programs use before the measurement: a busy machine carries fewer streams than it could."""

from __future__ import annotations

import os
import time
from pathlib import Path

WATCHED = 1.0  # seconds
NOTED = 0.3  # cores; fewer are not mentioned. A guess: the figures of an idle machine vary as much

STAT = Path("/proc/stat")
IDLE = slice(3, 5)  # of the first line's numbers: idle and iowait
MEASURED = slice(8)  # the numbers after these (guest, guest_nice) are part of them already


def busy_cores(seconds: float = WATCHED) -> float:
    """Watch the machine for so long; return how many cores were busy on average. Linux only."""
    before, began = STAT.read_text(), time.monotonic()
    time.sleep(seconds)
    return busy_between(before, STAT.read_text(), time.monotonic() - began, os.sysconf("SC_CLK_TCK"))


def busy_between(before: str, after: str, seconds: float, ticks: float) -> float:
    """Return how many cores were busy between two states of /proc/stat, of so many ticks a second."""
    return (_busy(after) - _busy(before)) / ticks / seconds


def _busy(stat: str) -> int:
    numbers = [int(number) for number in stat.split("\n", 1)[0].split()[1:]][MEASURED]
    return sum(numbers) - sum(numbers[IDLE])
