"""Other processes, as Linux reports them in /proc."""

from __future__ import annotations

import os
import select
from pathlib import Path


def status(process: int) -> dict[str, int]:
    """Return the numbers in a process' status: `VmRSS` and `VmHWM` (KiB resident, now and at most), `Threads`, ..."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = (line.partition(":")[::2] for line in lines)
    return {name: int(numbers[0]) for name, value in fields if (numbers := value.split()) and numbers[0].isdecimal()}


def descriptors(process: int) -> int:
    """Return how many descriptors a process has."""
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


def children(process: int) -> list[int]:
    """Return the PIDs of a process' children."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def runs(process: int, module: str) -> bool:
    """Tell whether a process runs this Python module."""
    return module.encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")


def ended(descriptor: int) -> bool:
    """Wait for the end of a process by its pidfd, and close that; return whether it has ended."""
    found, _, _ = select.select([descriptor], [], [], 30.0)
    os.close(descriptor)
    return bool(found)
