"""Runs the node tests of the page's pure modules, the *.test.mjs files in this folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.needs import node

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_the_tests_of_the_module_pass(path: Path) -> None:
    run = subprocess.run([node(), "--test", str(path)], capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stdout
