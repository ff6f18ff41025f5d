"""Processes that others have started, as Linux knows them."""

from __future__ import annotations

from pathlib import Path


def children(process: int) -> list[int]:
    """Return the processes that a process started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
