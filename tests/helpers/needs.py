"""What the page's tests need and a machine may not have: they are skipped then, with the reason."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "system" / "page"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not on this machine")
    return path


def chromium() -> str:
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("no Chromium is on this machine: Debian's is installed by apt-get install chromium")
    return path


@cache
def axe() -> str:
    """Return axe-core's script."""
    script = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        if shutil.which("npm") is None:
            pytest.skip("npm is not on this machine: it fetches axe-core")
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"npm could not install axe-core: {installed.stderr.strip()[-200:]}")
    return script.read_text()
