"""The installed wheel, used from a folder that has modules of its own by the names that other projects use, too."""

from __future__ import annotations

import signal
import subprocess
import sysconfig
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.clip import TWO_VOICES
from tests.helpers.command import announced, environment, url_in
from tests.helpers.wheel import PIP, built

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds, for processes on a busy machine
# Each fails when it is imported. The first three are what most projects have; the others are names of modules of ours.
OTHERS = (
    "app/__init__",
    "bridge/__init__",
    "bridge",
    "cli",
    "client",
    "engines",
    "logs",
    "server",
    "settings",
    "testing",
)
SDK = """
def start(audio):
    for chunk in audio:
        yield f"{len(chunk)} bytes"
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of a new venv with our wheel in it; what we depend on is taken from the developers' venv."""
    wheel = built(ROOT, tmp_path_factory.mktemp("wheels"))
    home = tmp_path_factory.mktemp("home")
    venv.create(home, with_pip=False, symlinks=True)
    subprocess.run([*PIP, "--python", home / "bin" / "python", "install", "--no-index", "--no-deps", wheel], check=True)
    [packages] = home.glob("lib/python*/site-packages")
    # A folder that a .pth file names comes last, and .pth files in it are not read: the developers' own is not.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of somebody else's."""
    folder = tmp_path_factory.mktemp("project")
    for name in OTHERS:
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise ImportError('{name} is not what speechbridge should import')")
    return folder


def run(folder: Path, *command: str | Path) -> str:
    ran = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def serving(folder: Path, programs: Path, **variables: str) -> Iterator[str]:
    """Run `speechbridge serve` in a folder; yield its URL."""
    command = [str(programs / "speechbridge"), "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(**variables), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield url_in(announced(process))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_the_public_names_are_imported(folder: Path, programs: Path) -> None:
    program = """
from speechbridge import connect, connect_resumable, flows
from speechbridge.server import create_app
import syncbridge
print(syncbridge.__file__)"""
    where = run(folder, programs / "python", "-c", program)
    assert Path(where.strip()).is_relative_to(programs.parent)


def test_the_service_with_its_recognizer_hears_a_file(folder: Path, programs: Path) -> None:
    with serving(folder, programs, SPEECHBRIDGE_RECOGNIZER_THREADS="1") as url:
        heard = run(folder, programs / "speechbridge", "transcribe", "--pace", "fast", "--url", url, TWO_VOICES)
    assert "window" in heard


def test_a_file_is_transcribed_without_a_service(folder: Path, programs: Path) -> None:
    assert "window" in run(folder, programs / "speechbridge", "transcribe", "--pace", "fast", TWO_VOICES)


def test_an_sdk_in_the_folders_own_app_is_found(folder: Path, programs: Path, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "sdk.py").write_text(SDK)
    with serving(tmp_path, programs, SPEECHBRIDGE_START="app.sdk:start") as url:
        program = f"""
import asyncio
from websockets.asyncio.client import connect

async def main():
    async with connect("{url}/ws_a") as socket:
        await socket.send(bytes(320))
        print(await socket.recv())

asyncio.run(main())"""
        assert run(folder, programs / "python", "-c", program) == "320 bytes\n"
