"""Runs clients of other projects' packages in a process of their own, in any version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.helpers.command import environment
from tests.helpers.wheel import PIP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE = 180.0  # seconds, for a process of clients


@cache
def installed(requirement: str, folder: Path) -> Path:
    """Install a package and its dependencies into a folder."""
    subprocess.run([*PIP, "install", "--target", folder, requirement], check=True, timeout=PATIENCE)
    return folder


def run(script: Path, job: Mapping[str, Any], packages: Path | None = None) -> list[dict[str, Any]]:
    """Run a script with the packages of a folder, or the installed ones; return the JSON object of each connection."""
    variables = {} if packages is None else {"PYTHONPATH": str(packages)}
    ran = subprocess.run(
        [sys.executable, script, json.dumps(job)],
        env=environment(**variables),
        cwd=os.path.sep,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]
