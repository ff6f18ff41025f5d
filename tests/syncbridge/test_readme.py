"""The README's example is a program that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_runs_word_for_word() -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "bridge" / "README.md").read_text(), re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["heard 3200 bytes", "heard 3200 bytes", "heard 1600 bytes"]
