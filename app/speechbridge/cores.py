"""Pins processes to CPU cores.

A Python process executes Python code on one core at a time. If a thread is woken on another core, it occupies that core
only to wait for the interpreter's lock. A service that is pinned to one core takes less CPU, and its worst delays are
shorter.

Pinning works on Linux only. Elsewhere `allowed` is empty, and no process is pinned.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

PROCESSES = Path("/proc")
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time, per this period in microseconds

# Pins itself, then becomes the program, so that all the program's threads are pinned, even those of its imports.
BECOME = "import os,sys;os.sched_setaffinity(0,map(int,sys.argv[1].split(',')));os.execv(sys.argv[2],sys.argv[2:])"


def allowed() -> tuple[int, ...]:
    """Return the cores that this process may use; empty where processes cannot be pinned."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def count() -> int:
    """Return how many processes can run at once: the number of allowed cores, or a container's lower quota."""
    cores = len(allowed()) or os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a quota: "max 100000"
        share, period = map(int, QUOTA.read_text().split())
        cores = min(cores, max(1, share // period))
    return cores


def choose(cores: Collection[int], number: int) -> list[int]:
    """Choose a core for each of `number` processes; different cores, unless there are too few.

    Cores to which the fewest other processes are pinned come first. Ties are broken at random, because two services may
    start at the same moment.
    """
    taken = _taken()
    ordered = sorted(cores, key=lambda core: (taken[core], random.random()))  # noqa: S311 # no secret
    return [ordered[index % len(ordered)] for index in range(number)] if ordered else []


def _taken() -> Counter[int]:
    """Count the processes that are pinned to each core, without the kernel's own, which have no VmRSS."""
    found: Counter[int] = Counter()
    for status in PROCESSES.glob("[0-9]*/status"):
        with suppress(OSError):  # the process has ended
            lines = status.read_text(errors="replace").splitlines()
            fields = dict(line.split(":\t", 1) for line in lines if line.startswith(("Cpus_allowed_list", "VmRSS")))
            core = fields.get("Cpus_allowed_list", "")
            if core.isdecimal() and "VmRSS" in fields and status.parent.name != str(os.getpid()):
                found[int(core)] += 1
    return found


def keep_to(core: int) -> None:
    """Pin this process to a core: all its threads, and those that it starts later. Linux only."""
    for thread in (PROCESSES / "self/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(int(thread.name), {core})


def command(cores: Collection[int], *words: str) -> list[str]:
    """Return a command that runs another one on these cores only; the command itself if `cores` is empty."""
    if not cores:
        return list(words)
    return [sys.executable, "-I", "-S", "-c", BECOME, ",".join(map(str, cores)), *words]
