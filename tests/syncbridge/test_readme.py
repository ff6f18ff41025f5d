"""The README's examples are programs that run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from syncbridge.testing import CHECKS

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "bridge" / "README.md").read_text(), re.DOTALL)


def test_the_example_runs_word_for_word() -> None:
    example = EXAMPLES[0]
    ran = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["heard 3200 bytes", "heard 3200 bytes", "heard 1600 bytes"]


@pytest.mark.slow
def test_the_suite_runs_as_the_page_has_it(tmp_path: Path) -> None:
    (tmp_path / "test_adapter.py").write_text(EXAMPLES[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_adapter.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert f"{len(CHECKS)} passed" in ran.stdout
