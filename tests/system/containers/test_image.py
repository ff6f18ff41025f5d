"""The image alone, as docs/deployment.md has it: page, endpoints and recognizer from one container."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.messages import Element, Final
from tests.helpers.clip import READING, words_right
from tests.helpers.command import speechbridge
from tests.helpers.stack import BUILD_SECONDS, ROOT, SECONDS, docker, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

if missing := what_is_missing():
    pytest.skip(f"containers cannot be run: {missing}", allow_module_level=True)

NAME = "speechbridge-image-test"
DOCS = (ROOT / "docs" / "deployment.md").read_text()


def commands(about: str) -> list[str]:
    """Return the commands of the example that mentions `about`."""
    (found,) = [text for text in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL) if about in text]
    return str(found).strip().splitlines()


def run(command: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    built = run(commands("make image\n")[0], BUILD_SECONDS)
    assert built.returncode == 0, built.stderr


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    yield number
    docker("rm", "--force", NAME, check=False)


def published(command: str, port: int) -> str:
    """Return the command with this port and the name that the test removes."""
    command = command.replace("--name speechbridge ", "").replace("8000:8000", f"{port}:8000")
    return command.replace("docker run --detach", f"docker run --detach --name {NAME}")


def await_start() -> None:
    """Wait until the container says that it listens."""
    with subprocess.Popen(["docker", "logs", "--follow", NAME], stdout=subprocess.PIPE, text=True) as logs:
        assert logs.stdout
        is_listening = any("Ctrl-C" in line for line in logs.stdout)
        logs.kill()
    assert is_listening


def fetched(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://localhost:{port}{path}", timeout=SECONDS) as answer:
        return str(answer.read().decode())


def test_one_container_serves_the_page_and_hears_speech(port: int) -> None:
    started = run(published(commands("make image\n")[1], port))
    assert started.returncode == 0, started.stderr
    await_start()
    assert fetched(port, "/livez") == "alive\n"
    assert "<title>" in fetched(port, "/")
    ran = speechbridge("transcribe", "--pace", "fast", "--url", f"ws://localhost:{port}", str(READING))
    assert ran.returncode == 0, ran.stderr
    assert words_right([Final(0, 0, tuple(map(Element, line.split()))) for line in ran.stdout.splitlines()]) > 0.8
    (state,) = json.loads(docker("inspect", NAME))
    assert state["Config"]["User"] == "10001:10001"
    docker("stop", "-t", "20", NAME)
    (state,) = json.loads(docker("inspect", NAME))
    assert state["State"]["ExitCode"] == 0
    assert "Traceback" not in docker("logs", NAME)


def test_with_a_key_it_may_be_published_to_others(port: int) -> None:
    made = run(commands("api_keys  #")[0].partition(" > ")[0])
    assert made.returncode == 0, made.stderr
    key = made.stderr.splitlines()[-1]
    command = published(commands("api_keys  #")[1], port).replace("$(cat api_keys)", made.stdout.strip())
    assert run(command).returncode == 0
    await_start()
    url = f"ws://localhost:{port}"
    assert "API key" in speechbridge("transcribe", "--pace", "fast", "--url", url, str(READING)).stderr
    ran = speechbridge("transcribe", "--pace", "fast", "--url", url, str(READING), SPEECHBRIDGE_KEY=key)
    assert ran.returncode == 0, ran.stderr
    assert "Dashwood" in ran.stdout


def test_without_a_key_it_does_not_start_and_says_what_to_set() -> None:
    ran = subprocess.run(
        ["docker", "run", "--rm", "--name", NAME, "speechbridge"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "without an API key" in line
    assert "SPEECHBRIDGE_PUBLISHED_ON=127.0.0.1" in line
