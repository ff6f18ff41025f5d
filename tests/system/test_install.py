"""What `make run` does before it runs: install.sh, with a package of nothing and a lock of nothing in place of ours."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; ensurepip takes 5 on a calm machine
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import zipfile

def build_editable(folder, settings=None, metadata=None):
    name = "nothing-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("nothing.py", "")
        wheel.writestr("nothing-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: nothing\\nVersion: 1\\n")
        wheel.writestr("nothing-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("nothing-1.dist-info/RECORD", "")
    return name
"""


def project(parent: Path) -> Path:
    folder = parent / "a folder"
    folder.mkdir()
    shutil.copy(ROOT / "install.sh", folder)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (folder / lock).touch()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a .venv, for several tests: to make one takes some seconds. Each leaves it as it was."""
    folder = project(tmp_path_factory.mktemp("installed"))
    assert install(folder).returncode == 0
    return folder


def install(folder: Path, lock: str = "requirements.lock", **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    found = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return subprocess.run(
        ["./install.sh", lock],
        cwd=folder,
        env={**kept, "PATH": found, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def old_python(folder: Path) -> Path:
    """Make a `python3` that says that it is 3.10."""
    script = "import sys; sys.version_info = (3, 10, 4); exec(sys.argv[2])"
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{script}' \"$@\"\n")
    path.chmod(0o755)
    return path


def test_it_installs_once_and_says_so(folder: Path) -> None:
    first = install(folder)
    assert first.returncode == 0, first.stderr
    assert "installing into .venv" in first.stderr
    assert subprocess.run([folder / ".venv/bin/python", "-c", "import nothing"], check=False).returncode == 0
    again = install(folder)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert "installing into .venv" in install(folder, "requirements-dev.lock").stderr
    assert install(folder).stderr == "", "the developers' lock holds what the other does"
    (folder / "requirements.lock").write_text("# newer\n")
    updated = install(folder).stderr
    assert "installing" in updated
    assert "anew" not in updated


def test_a_terminal_sees_how_far_it_is(installed: Path) -> None:
    """The backend takes its time, as the network does in earnest."""
    lock, backend = installed / "requirements.lock", installed / "backend.py"
    lock.write_text("# newer, with a package==1\n")
    backend.write_text(f"import time\ntime.sleep(4)\n{BACKEND}")
    terminal, stderr = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    with subprocess.Popen(["./install.sh", lock.name], cwd=installed, env=kept, stderr=stderr) as process:
        os.close(stderr)
        shown = b""
        with suppress(OSError):  # EIO at its end
            while part := os.read(terminal, 1024):
                shown += part
        os.close(terminal)
    lock.write_text("")
    backend.write_text(BACKEND)
    assert process.returncode == 0
    assert b"\r  0 of 1 packages fetched\r" in shown
    assert install(installed).returncode == 0


@pytest.mark.parametrize("harm", ["interrupted", "another Python", "no Python", "moved"])
def test_a_venv_that_does_not_work_is_made_anew(harm: str, installed: Path) -> None:
    venv = installed / ".venv"
    stamp = venv / "installed"
    (venv / "left").touch()
    if harm == "interrupted":
        stamp.unlink()
    elif harm == "another Python":  # as after an upgrade of the system: the same path leads to another version
        stamp.write_text(stamp.read_text().replace(f" {sys.version_info[0]}.{sys.version_info[1]}\n", " 3.10\n"))
    elif harm == "no Python":
        (venv / "bin" / "python").unlink()
    else:
        stamp.write_text(stamp.read_text().replace(f"{installed} ", f"{installed.parent} "))
    ran = install(installed)
    assert ran.returncode == 0, ran.stderr
    assert "making it anew" in ran.stderr
    assert not (venv / "left").exists()
    assert install(installed).stderr == ""


def test_an_old_python_is_refused_with_the_cure(folder: Path) -> None:
    old = old_python(folder)
    ran = install(folder, PYTHON=str(old))
    assert ran.returncode == 1
    assert ran.stderr == (
        f"speechbridge: Python 3.11 or newer is needed, and {old} is 3.10: install one, or name yours, as in"
        " PYTHON=/path/to/python3.11 make run\n"
    )
    assert not (folder / ".venv").exists()


def test_an_old_python3_is_passed_over_for_a_newer_one(folder: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    old_python(tools)
    (tools / f"python3.{sys.version_info[1]}").symlink_to(sys.executable)
    ran = install(folder, PATH=f"{tools}:{os.environ['PATH']}")
    assert ran.returncode == 0, ran.stderr
    assert f"with Python 3.{sys.version_info[1]}" in ran.stderr


def test_a_failure_of_pip_is_told_and_tried_again(installed: Path) -> None:
    (installed / "requirements.lock").write_text(f"nowhere==1 --hash=sha256:{'0' * 64}\n")
    ran = install(installed, PIP_NO_INDEX="1")
    assert ran.returncode == 1
    assert "nowhere" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("speechbridge: the installation failed")
    (installed / "requirements.lock").write_text("")
    assert install(installed).returncode == 0
