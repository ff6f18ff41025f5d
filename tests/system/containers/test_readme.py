"""README.md's lines about containers, run word for word on the ports that they name."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.command import environment
from tests.helpers.stack import BUILD_SECONDS, ROOT, docker, what_is_missing

pytestmark = pytest.mark.slow

if missing := what_is_missing():
    pytest.skip(f"containers cannot be run: {missing}", allow_module_level=True)
if not docker("compose", "version", check=False):
    pytest.skip("`docker compose` is not installed: docker-compose 1 has no --wait", allow_module_level=True)

PROJECT = "speechbridge-readme-test"
PORTS = 80, 443
COPIED = (
    *("Dockerfile", ".dockerignore", "docker-compose.yml", "deploy", "app", "bridge", "tests/speech"),
    *("README.md", "LICENSE", "pyproject.toml", "requirements.lock"),
)


def clone(folder: Path) -> None:
    """Copy what the lines need, with the .venv that runs this test, so that nothing is written into our own folder."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (folder / ".venv").symlink_to(Path(sys.prefix))


def test_what_the_readme_says_about_containers_works(tmp_path: Path) -> None:
    with ExitStack() as ports:
        try:
            for port in PORTS:
                ports.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError as error:
            pytest.skip(f"port {port} cannot be used here: {error.strerror}")
    readme = (ROOT / "README.md").read_text()
    (lines,) = [text for text in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "docker compose up" in text]
    clone(tmp_path)
    kept = environment(COMPOSE_PROJECT_NAME=PROJECT)
    for name in ("HTTP_PORT", "HTTPS_PORT", "SSL_CERT_FILE"):
        kept.pop(name, None)

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-eu", "-c", script]
        return subprocess.run(
            command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )

    try:
        ran = run(lines)
        assert ran.returncode == 0, ran.stderr
        assert "Dashwood" in ran.stdout
        # --wait returned when all of them were healthy, so the service answered at once.
        assert run("docker compose ps --status running --quiet").stdout.count("\n") == 3
    finally:
        run("docker compose down --volumes --timeout 1")
