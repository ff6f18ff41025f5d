"""The Python in README.md and docs/ does what the text around it says."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
from inspect import iscoroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from websockets.sync.client import connect

from speechbridge.protocol.messages import Element, Final
from tests.helpers.clip import READING
from tests.helpers.command import PATIENCE, serving, speechbridge, url_in
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CHUNKS = [bytes(3200)] * 3


def example(page: str, about: str) -> str:
    """Return the example that mentions `about`."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (found,) = [text for text in examples if about in text]
    return str(found)


def counter(audio: Iterator[bytes]) -> Iterator[str]:
    yield Final(0.0, 0.1, (Element(f"{sum(map(len, audio))} bytes"),)).encode()


async def run(code: str, **given: Any) -> dict[str, Any]:
    """Run code, which may await at its top level; return its names."""
    names = dict(given)
    compiled = compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(compiled, names)  # noqa: S307 # our own documentation
    if iscoroutine(running):
        await running
    return names


async def test_the_client_prints_the_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    async with service(counter) as server:
        code = example("README.md", "async with connect(").replace("ws://127.0.0.1:8000", server.url)
        await run(code, chunks=CHUNKS)
    assert capsys.readouterr().out == "9600 bytes\n"


async def test_a_rev_ai_client_prints_the_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    async with service(counter) as server:
        code = example("README.md", "RevAiStreamingClient").replace("ws://127.0.0.1:8000", server.url)
        names: dict[str, Any] = {"chunks": iter(CHUNKS)}
        await asyncio.to_thread(exec, code, names)
        names["client"].request_thread.join(5)
        names["client"].client.shutdown()  # the SDK leaves its socket to the garbage collector
    assert "9600 bytes" in capsys.readouterr().out


def test_a_service_is_tested_with_a_stub() -> None:
    exec(example("README.md", "TestClient"), {})  # noqa: S102 # our own documentation


async def test_the_flows_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speech.wav").write_bytes(bytes(10))
    async with (
        service(counter) as far,
        service(counter, proxy_url=f"{far.url}/ws", files_dir=tmp_path / "kept") as server,
    ):
        code = example("docs/endpoints.md", "flows(").replace("ws://127.0.0.1:8000", server.url)
        await run(code)
    assert capsys.readouterr().out.splitlines()[0] == "Hello"
    assert [path.read_bytes() for path in (tmp_path / "kept").iterdir()] == [bytes(10)]


async def test_the_processor_changes_a_message() -> None:
    names = await run(example("docs/processors.md", "def process"))
    assert names["process"]("a colour") == "a color"


async def test_the_library_serves_an_application_of_ones_own() -> None:
    names = await run(example("docs/embedding.md", "with Bridge(sdk)"))
    with TestClient(names["app"]).websocket_connect("/captions") as socket:
        socket.send_bytes(bytes(10))
        assert socket.receive_text() == "heard 10 bytes"


@pytest.mark.slow
@pytest.mark.parametrize("client", ["connect", "connect_resumable"])
def test_the_program_of_the_tutorial_prints_captions(client: str, tmp_path: Path) -> None:
    with serving() as (_, said):
        code = example("docs/tutorial.md", "async def speak").replace("ws://127.0.0.1:8000", url_in(said))
        (tmp_path / "captions.py").write_text(re.sub(r"\bconnect\b", client, code))
        command = [sys.executable, str(tmp_path / "captions.py")]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    kinds = [line.split()[0] for line in ran.stdout.splitlines()]
    assert kinds.index("partial") < kinds.index("final")
    assert "Mr. John Dashwood" in ran.stdout


@pytest.mark.slow
def test_the_program_of_the_tutorial_goes_on_after_a_restart(tmp_path: Path) -> None:
    with serving() as (_, said):
        url = url_in(said)
        code = example("docs/tutorial.md", "async def speak").replace("ws://127.0.0.1:8000", url)
        (tmp_path / "captions.py").write_text(re.sub(r"\bconnect\b", "connect_resumable", code))
        command = [sys.executable, "-u", str(tmp_path / "captions.py")]
        program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert program.stdout is not None
        first = program.stdout.readline()
    with serving(port=url.rpartition(":")[2]):  # the one before was killed
        printed = first + program.communicate(timeout=PATIENCE)[0]
    assert program.returncode == 0, printed
    assert first.startswith("partial")
    assert "made amiable himself." in printed


@pytest.mark.slow
def test_the_sdk_of_the_tutorial_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counting.py").write_text(example("docs/tutorial.md", "def start"))
    monkeypatch.chdir(tmp_path)
    with serving(SPEECHBRIDGE_START="counting:start") as (_, said):
        with connect(f"{url_in(said)}/ws_a") as socket:
            socket.send(bytes(32000))
            assert json.loads(socket.recv())["elements"][0]["value"] == "32000 bytes so far"
        ran = speechbridge("transcribe", "--pace", "fast", "--url", url_in(said), str(READING))
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "502080 bytes so far")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "into", "said"),
    [
        ("reading.flac", "missing.flac", "Error opening 'tests/speech/missing.flac'"),
        ("await asyncio.sleep(0.1)", "raise OSError('the microphone is gone')", "the microphone is gone"),
    ],
)
def test_the_program_of_the_tutorial_ends_if_its_sound_does(changed: str, into: str, said: str, tmp_path: Path) -> None:
    with serving() as (_, url):
        code = example("docs/tutorial.md", "async def speak").replace("ws://127.0.0.1:8000", url_in(url))
        (tmp_path / "captions.py").write_text(code.replace(changed, into))
        command = [sys.executable, str(tmp_path / "captions.py")]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert said in ran.stderr


@pytest.mark.slow
async def test_an_openai_client_prints_the_transcript(capsys: pytest.CaptureFixture[str]) -> None:
    async with service(counter) as server:
        code = example("docs/openai.md", "AsyncOpenAI").replace("ws://127.0.0.1:8000", server.url)
        names = await run(code, chunks=[bytes(4800)] * 3)
        await names["client"].close()
    assert capsys.readouterr().out == "14400 bytes\n"  # 24 kHz, as it was sent
