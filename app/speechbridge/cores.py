"""Which core a process keeps to.

A Python process runs on one core at a time, and a thread that is woken on another core waits for the interpreter there.
Kept to one core, a service takes less CPU, and its worst delays are shorter.

Only where the platform can (Linux): elsewhere `allowed` is empty, and nobody is kept to a core.
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
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time, and in how many of the clock

# Sets the affinity of the program that it becomes, and so of all its threads: those of its imports, too.
BECOME = "import os,sys;os.sched_setaffinity(0,map(int,sys.argv[1].split(',')));os.execv(sys.argv[2],sys.argv[2:])"


def allowed() -> tuple[int, ...]:
    """Return the cores that this process may use; empty where a process cannot choose."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def count() -> int:
    """Return how many processes can run at once: the cores that are allowed, and no more than a container's share."""
    cores = len(allowed()) or os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a quota: "max 100000"
        share, period = map(int, QUOTA.read_text().split())
        cores = min(cores, max(1, share // period))
    return cores


def choose(cores: Collection[int], number: int) -> list[int]:
    """Choose a core for each of so many processes: different ones, as long as there are any.

    Those come first to which the fewest other processes keep, such as another service of ours. Ties are decided by
    chance, as two services may be started at one moment.
    """
    taken = _taken()
    ordered = sorted(cores, key=lambda core: (taken[core], random.random()))  # noqa: S311 # no secret
    return [ordered[index % len(ordered)] for index in range(number)] if ordered else []


def _taken() -> Counter[int]:
    """Count the processes that keep to each core. The kernel's own have no memory, and do not count."""
    found: Counter[int] = Counter()
    for status in PROCESSES.glob("[0-9]*/status"):
        with suppress(OSError):  # it has ended
            lines = status.read_text(errors="replace").splitlines()
            fields = dict(line.split(":\t", 1) for line in lines if line.startswith(("Cpus_allowed_list", "VmRSS")))
            core = fields.get("Cpus_allowed_list", "")
            if core.isdecimal() and "VmRSS" in fields and status.parent.name != str(os.getpid()):
                found[int(core)] += 1
    return found


def keep_to(core: int) -> None:
    """Keep this process to a core: all threads that it has, and those that it begins. Linux only."""
    for thread in (PROCESSES / "self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), {core})


def command(cores: Collection[int], *words: str) -> list[str]:
    """Return the command that runs another one on these cores alone; on all that we may use, if there are none."""
    if not cores:
        return list(words)
    return [sys.executable, "-I", "-S", "-c", BECOME, ",".join(map(str, cores)), *words]
