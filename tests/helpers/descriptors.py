"""The open descriptors of this process."""

from __future__ import annotations

import os
from contextlib import suppress

DESCRIPTORS = "/proc/self/fd"  # Linux only; elsewhere the guard watches threads and tasks


def open_files() -> set[str]:
    """Return each open descriptor with its target, so that a leak can be recognized."""
    found = set()
    for name in os.listdir(DESCRIPTORS) if os.path.isdir(DESCRIPTORS) else ():  # noqa: PTH112, PTH208 # before and after each test: Path takes four times as long
        with suppress(FileNotFoundError):  # the directory's own descriptor, closed by now
            found.add(f"{name} -> {os.readlink(f'{DESCRIPTORS}/{name}')}")  # noqa: PTH115
    return found
