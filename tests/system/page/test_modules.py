"""The page's pure modules under node: each has its tests beside this file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.needs import node

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_the_module_does_what_its_tests_say(path: Path) -> None:
    run = subprocess.run([node(), "--test", str(path)], capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stdout
