"""The commands in README.md and docs/ do what the text around them says, in a shell, with a scripted speech service."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile

from tests.helpers.clip import READING
from tests.helpers.command import HEARS_HELLO, PATIENCE, announced, environment, serving, url_in
from tests.helpers.redis import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
BLOCKS = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(SPEECHBRIDGE_START=HEARS_HELLO) as (_, said):
        yield url_in(said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with what the commands read; programs that record and decode are played by `cat`."""
    samples, rate = soundfile.read(READING, dtype="int16", frames=16000)
    (tmp_path / "tests" / "speech").mkdir(parents=True)
    for name in ("tests/speech/reading.flac", "lecture-1.mp3", "lecture-2.flac", "speech.wav"):
        soundfile.write(tmp_path / name, samples, rate)
    (tmp_path / "speech.raw").write_bytes(samples.tobytes())
    (tmp_path / "bin").mkdir()
    for program, heard in (("arecord", "speech.wav"), ("ffmpeg", "speech.wav"), ("sox", "speech.raw")):
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\nexec cat {heard}\n")
        (tmp_path / "bin" / program).chmod(0o755)
    return tmp_path


def commands(page: str, about: str) -> str:
    """Return the lines of shell examples that mention `about`, with our commands where they are installed."""
    lines = [
        line for block in BLOCKS.findall((ROOT / page).read_text()) for line in block.splitlines() if about in line
    ]
    assert lines, about
    return "\n".join(lines).replace(".venv/bin/", f"{COMMANDS}/")


def variables(folder: Path, url: str) -> dict[str, str]:
    """Return an environment in which commands find our programs, and the service at `url`."""
    host, _, port = url.removeprefix("ws://").partition(":")
    path = os.pathsep.join([str(folder / "bin"), str(COMMANDS), os.environ["PATH"]])
    return environment(PATH=path, SPEECHBRIDGE_HOST=host, SPEECHBRIDGE_PORT=port)


def run(script: str, folder: Path, url: str) -> str:
    script = script.replace("http://127.0.0.1:8000", url.replace("ws", "http", 1))
    ran = subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env=variables(folder, url),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    ("page", "about"),
    [
        ("README.md", "speechbridge transcribe tests/"),
        ("docs/tutorial.md", "speechbridge transcribe tests/"),
        ("docs/command-line.md", "arecord"),
        ("docs/command-line.md", "ffmpeg"),
        ("docs/command-line.md", "sox"),
    ],
)
def test_a_command_prints_the_transcript(page: str, about: str, folder: Path, url: str) -> None:
    assert run(commands(page, about), folder, url) == "Hello.\n"


def test_subtitles_are_written_for_each_file(folder: Path, url: str) -> None:
    run(commands("docs/command-line.md", "--format srt"), folder, url)
    written = {path.name: path.read_text() for path in (folder / "captions").iterdir()}
    assert sorted(written) == ["lecture-1.srt", "lecture-2.srt"]
    assert all("Hello." in text for text in written.values())


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
def test_curl_sends_a_file(folder: Path, url: str) -> None:
    assert '"text": "Hello."' in run(commands("docs/files.md", "curl"), folder, url)


def test_a_clients_own_program_prints_the_transcript(url: str) -> None:
    line = commands("examples/README.md", "python_client")
    assert "Hello." in run(f"{line} {url}", ROOT, url)


def test_the_doctor_examines_this_machine_and_a_service(folder: Path, url: str) -> None:
    here, there, origin = commands("docs/command-line.md", "speechbridge doctor").splitlines()
    skipped = " --skip microphone --skip memory --skip descriptors --skip threads"  # of the machine that runs the test
    for line in (here, there.replace("https://speech.example.org", f"{url} --hold 0")):
        told = run(line.partition("#")[0] + skipped, folder, url)
        assert "a speechbridge listens" in told
        assert "WRONG" not in told
    with pytest.raises(AssertionError, match=r"pages of https://app\.example\.org may not connect"):
        run(origin.partition("#")[0] + skipped, folder, url)


@pytest.mark.parametrize("page", ["docs/tutorial.md", "docs/security.md"])
def test_a_service_takes_the_key_that_was_made(page: str, folder: Path, url: str) -> None:
    make, serve = commands(page, "keys").splitlines()
    run(make.partition("#")[0], folder, url)
    assert "0.0.0.0" in begun(f"{serve} --port 0", folder)  # noqa: S104 # what the docs say


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")
def test_three_replicas_share_a_redis(folder: Path) -> None:
    blocks = BLOCKS.findall((ROOT / "docs/deployment.md").read_text())
    (script,) = [block for block in blocks if "serve --port 8001" in block]
    with ExitStack() as taken, redis_server(folder) as redis:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [str(it.getsockname()[1]) for it in sockets]
        taken.close()  # they are free again
        script = re.sub(r"\b800([123])\b", lambda found: ports[int(found[1]) - 1], script)
        assert "redis://127.0.0.1:6379/0" in script
        ran = subprocess.run(
            ["sh", "-ec", script.replace("redis://127.0.0.1:6379/0", redis.url)],
            cwd=folder,
            env=variables(folder, "ws://:") | {"SPEECHBRIDGE_START": HEARS_HELLO, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "\nHello.\n" in ran.stdout
    assert ran.stderr.count("Finished server process") == 3, ran.stderr


def test_a_service_reads_the_settings_of_a_file(folder: Path) -> None:
    (folder / ".env").write_text("SPEECHBRIDGE_PORT=0\nSPEECHBRIDGE_KEYWORDS='refund,good morning'\n")
    script = commands("docs/settings.md", "set -a").replace("speechbridge serve", "exec speechbridge serve --verbose")
    assert ":8000" not in begun(script, folder)


def begun(script: str, folder: Path) -> str:
    """Run a service by a script until it listens; return what it says."""
    first, _, last = script.rpartition("speechbridge serve")
    script = script if "exec " in script else f"{first.replace(f'{COMMANDS}/', '')}exec speechbridge serve{last}"
    given = variables(folder, "ws://127.0.0.1:0") | {"SPEECHBRIDGE_START": HEARS_HELLO, "PYTHONPATH": str(ROOT)}
    del given["SPEECHBRIDGE_HOST"], given["SPEECHBRIDGE_PORT"]
    with subprocess.Popen(
        ["sh", "-ec", script], cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            return announced(process)
        finally:
            process.kill()
            process.communicate()
