"""Programs that the page's tests need. If one is missing, the test is skipped, with the reason."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "system" / "page"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FIREFOXES = ("firefox-esr", "firefox")
MINI_BROWSERS = sorted(Path("/usr").glob("lib/*/webkit2gtk-4.*/MiniBrowser"))


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


def firefox() -> str:
    path = next(filter(None, map(shutil.which, FIREFOXES)), None)
    if path is None or shutil.which("pulseaudio") is None:
        pytest.skip("no Firefox with a sound server is on this machine: apt-get install firefox-esr pulseaudio")
    return path


def webkit() -> str:
    needed = all(map(shutil.which, ("WebKitWebDriver", "Xvfb", "pulseaudio")))
    if not MINI_BROWSERS or not needed:
        pytest.skip("WebKitGTK or its driver is missing: apt-get install webkit2gtk-driver xvfb pulseaudio")
    return str(MINI_BROWSERS[-1])


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
