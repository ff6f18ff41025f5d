"""Builds a project of ours as a wheel, as users do, without a network."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir")


def built(project: Path, into: Path) -> Path:
    subprocess.run([*PIP, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", into, project], check=True)
    [wheel] = into.glob("*.whl")
    return wheel
