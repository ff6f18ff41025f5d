"""What the forge reads has the form that it takes, and calls what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("compose-spec", "docker-compose.yml"),
    ],
)
def test_a_file_follows_its_schema(schema: str, files: str) -> None:
    found = sorted(map(str, ROOT.glob(files)))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *found]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_makes_what_the_makefile_has(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"\bmake ([a-z]+)", workflow.read_text()))
    assert made
    assert made <= targets


def test_the_tests_run_on_each_python_that_is_promised() -> None:
    """Those that are not promised yet may fail."""
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    (first, last), *_ = re.findall(r"Python (3\.\d+) to (3\.\d+)", (ROOT / "docs" / "versions.md").read_text())
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    (matrix,) = re.findall(r"python: \[(.*)\]", workflow)
    may_fail = re.findall(r"continue-on-error: .*matrix\.python == '(3\.\d+)'", workflow)
    assert (classified[0], classified[-1]) == (first, last)
    assert [*classified, *may_fail] == re.findall(r'"(3\.\d+)"', matrix)
