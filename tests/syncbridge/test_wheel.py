"""The wheels: what is in them, and that the library's runs where nothing but janus is installed. Needs no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from syncbridge.testing import CHECKS
from tests.helpers.wheel import PIP, built

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def tops(wheel: Path) -> set[str]:
    """Return what the wheel puts beside other people's packages, but for its own metadata."""
    return {top for name in contents(wheel) if not (top := name.partition("/")[0]).endswith(".dist-info")}


def put_janus(into: Path) -> None:
    """Copy the installed janus, as pip would install it."""
    installed = distribution("janus")
    for file in installed.files or ():
        if file.suffix != ".pyc":
            target = into / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(str(installed.locate_file(file))), target)


def test_the_library_alone_runs_the_readmes_example_beside_janus_only(tmp_path: Path) -> None:
    wheel = built(ROOT / "bridge", tmp_path / "wheels")
    assert tops(wheel) == {"syncbridge"}
    assert {"syncbridge/py.typed", "syncbridge/testing/__init__.py"} <= set(contents(wheel))

    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-index", "--no-deps", wheel], check=True)
    [packages] = home.glob("lib/python*/site-packages")
    put_janus(packages)
    subprocess.run([*PIP, "--python", python, "check"], check=True)  # janus is all that it requires

    count = [str(python), "-I", "-c", "import syncbridge.testing as it; print(len(it.CHECKS))"]
    ran = subprocess.run(count, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == len(CHECKS)

    example = re.findall(r"```python\n(.*?)```", (ROOT / "bridge" / "README.md").read_text(), re.DOTALL)[0]
    ran = subprocess.run([python, "-I", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["heard 3200 bytes", "heard 3200 bytes", "heard 1600 bytes"]


def test_the_services_wheel_carries_both_packages_and_nothing_else(tmp_path: Path) -> None:
    assert tops(built(ROOT, tmp_path)) == {"speechbridge", "syncbridge"}
