"""Holds a process to a share of a core, through a cgroup of Linux: version 2, or version 1 where that is mounted."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
PERIOD = 10_000  # us: short, so that a process that has used up its share waits for a few milliseconds only


@contextmanager
def held_to(share: float, pid: int) -> Iterator[None]:
    """Hold a process to this share of a core within the context. Raises OSError without the right to make cgroups."""
    is_first_version = (ROOT / "cpu").is_dir()
    root = ROOT / "cpu" if is_first_version else ROOT
    group = root / f"speechbridge-bench-{os.getpid()}-{pid}"
    group.mkdir()
    try:
        quota = str(round(share * PERIOD))
        if is_first_version:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(quota)
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended
            (root / "cgroup.procs").write_text(str(pid))
        group.rmdir()
