"""Whether memory, file descriptors and threads are enough for SPEECHBRIDGE_MAX_SESSIONS.

The figures are from docs/deployment.md and docs/performance.md, which describe how they were measured.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.server.speech import needs_recognizer

if TYPE_CHECKING:
    from speechbridge.cli.doctor.findings import Case, Report
    from speechbridge.settings import Settings

MIB = 2**20
SERVICE = 100 * MIB  # without a stream
STREAM = 1 * MIB  # of live audio
STREAM_AT_WORST = 4 * MIB  # while the speech service is away, and the client sends as much as it may
RECOGNIZER = 205 * MIB  # the embedded one, without a stream
RECOGNIZED_STREAM = 2 * MIB  # of the embedded recognizer
STREAMS_PER_THREAD = 8  # of the recognizer: see SPEECHBRIDGE_RECOGNIZER_STREAMS
FILES = 64  # descriptors without a stream: 18 measured, and room for uploads and logs
THREADS = 8  # without a stream: 5 measured
ADDRESSES = 300 * MIB  # of address space without a stream: 281 measured on Linux
STACK = 8 * MIB  # of a thread; a lower limit applies

# Limits of control groups and their current use, in version 2 and version 1.
GROUP_MEMORY = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
GROUP_CACHE = (
    ("/sys/fs/cgroup/memory.stat", "inactive_file"),
    ("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file"),
)
GROUP_THREADS = (
    ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids.current"),
    ("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids/pids.current"),
)


async def memory(case: Case, report: Report) -> None:
    known = case.settings
    needed = SERVICE + known.max_sessions * STREAM
    at_worst = SERVICE + known.max_sessions * STREAM_AT_WORST
    what = f"{known.max_sessions} streams (SPEECHBRIDGE_MAX_SESSIONS)"
    if needs_recognizer(known):
        streams = recognizer_streams(known)
        needed += RECOGNIZER + streams * RECOGNIZED_STREAM
        at_worst += RECOGNIZER + streams * RECOGNIZED_STREAM
        what += f" and {streams} in the recognizer"
    free = free_memory()
    if free is None:
        report.note(f"{what} take {_mib(needed)}; this system does not report how much is free")
    elif free < needed:
        cure = "set SPEECHBRIDGE_MAX_SESSIONS or SPEECHBRIDGE_RECOGNIZER_STREAMS lower, or give it more memory"
        report.wrong(f"{what} take {_mib(needed)}, and {_mib(free)} are free", cure)
    elif free < at_worst:
        found = f"{what} take {_mib(needed)} of {_mib(free)} free memory, but {_mib(at_worst)} at worst"
        report.note(found, "this happens while the speech service is away, if clients send as much as they may")
    else:
        report.ok(f"{what} take {_mib(needed)}, {_mib(at_worst)} at worst, and {_mib(free)} are free")


def recognizer_streams(known: Settings) -> int:
    threads = known.recognizer_threads or _cores()
    return min(known.recognizer_streams or STREAMS_PER_THREAD * threads, known.max_sessions)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def descriptors(case: Case, report: Report) -> None:
    """Check the limit: each connection takes one descriptor, and each stream one more, to the speech service."""
    known = case.settings
    needed = FILES + known.most_connections + known.max_sessions
    what = f"{known.most_connections} connections and {known.max_sessions} streams take {needed} file descriptors"
    limits = _limits("RLIMIT_NOFILE")
    if limits is None:
        report.note(f"{what}; this system reports no limit")
    elif limits[0] < needed:
        cure = f"ulimit -n {needed} (systemd: LimitNOFILE={needed}, containers: --ulimit nofile={needed})"
        if 0 <= limits[1] < needed:  # -1: unlimited
            cure = f"as root, as the hard limit is {limits[1]}: {cure}"
        report.wrong(f"{what}, and the limit is {limits[0]}", f"{cure}, or set SPEECHBRIDGE_MAX_SESSIONS lower")
    else:
        report.ok(f"{what} of {limits[0]}")


async def threads(case: Case, report: Report) -> None:
    """Check the limits: each stream takes two threads, as the SDK reads in one and sends in another."""
    known = case.settings
    needed = THREADS + 2 * known.max_sessions
    what = f"{known.max_sessions} streams take {needed} threads"
    left = _group_rest(GROUP_THREADS)
    if left is not None and left < needed:
        cure = "raise the limit of the container (--pids-limit, systemd: TasksMax)"
        report.wrong(f"{what}, and its control group has {left} left", cure)
    if sys.platform == "linux" and os.getuid() != 0:  # the limit does not apply to root
        limits = _limits("RLIMIT_NPROC")
        if limits is not None and limits[0] < needed:
            report.wrong(f"{what}, and the limit for this user is {limits[0]}", f"ulimit -u {needed} or more")
    space, stack = _limits("RLIMIT_AS"), _limits("RLIMIT_STACK")
    mapped = ADDRESSES + needed * min(stack[0] if stack is not None else STACK, STACK)
    if space is not None and space[0] < mapped:
        cure = f"ulimit -v unlimited, or {mapped // 1024} at least"
        report.wrong(f"{what}, which map {_mib(mapped)}, and the limit is {_mib(space[0])}", cure)
    if not report.findings:
        report.ok(f"{what}, and the limits allow them")


def free_memory() -> int | None:
    """Return the bytes that are available, on this machine or within this control group; None if not known."""
    in_group = _group_rest(GROUP_MEMORY)
    if in_group is not None:
        in_group += _reclaimable()
    return min((rest for rest in (_available(), in_group) if rest is not None), default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _reclaimable() -> int:
    """Return the bytes of a control group's file cache, which the kernel frees when memory is needed."""
    for path, name in GROUP_CACHE:
        try:
            found = dict(line.split() for line in Path(path).read_text().splitlines())
            return int(found[name])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def _group_rest(files: tuple[tuple[str, str], ...]) -> int | None:
    """Return how much is left of a control group's limit; None if there is no limit."""
    for limit, used in files:
        try:
            return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def _limits(name: str) -> tuple[int, int] | None:
    """Return the soft and the hard limit of this process; None if it is unlimited, or the system has no limits."""
    try:
        import resource  # noqa: PLC0415 # not on Windows
    except ImportError:
        return None
    soft, hard = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else (soft, hard)


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MB"
