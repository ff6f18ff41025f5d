"""The programs in examples/ do what their first lines say, with real speech and in processes of their own."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
import soundfile
from websockets.asyncio.client import connect

from tests.helpers.clip import READING
from tests.helpers.command import announced, environment, serving, url_in

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "examples"
NAME = "Mr. John Dashwood"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run the service with the embedded recognizer."""
    with serving() as (_, said):
        yield url_in(said)


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return six seconds of real speech, as 16 kHz mono S16LE."""
    path = tmp_path_factory.mktemp("speech") / "reading.wav"
    samples, rate = soundfile.read(READING, dtype="int16", frames=6 * 16000)
    soundfile.write(path, samples, rate)
    return path


def run(example: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@contextmanager
def own_app() -> Iterator[str]:
    """Run `uvicorn own_app:app`; yields host and port."""
    command = [sys.executable, "-m", "uvicorn", "own_app:app", "--port", "0"]
    with subprocess.Popen(
        command, cwd=EXAMPLES, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield re.findall(r"http://(\S+)", announced(process, "running on"))[0]
        finally:
            process.terminate()
            process.communicate()


def read(url: str) -> str:
    with urlopen(url) as page:  # noqa: S310 # our own server
        return str(page.read(), "utf-8")


async def messages(url: str, audio: bytes) -> list[dict[str, Any]]:
    """Return what the service answers to audio."""
    async with connect(f"{url}/ws_a") as socket:
        for start in range(0, len(audio), 2**15):
            await socket.send(audio[start : start + 2**15])
        await socket.send("EOS")
        return [json.loads(message) async for message in socket]


@pytest.mark.parametrize("example", ["rev_client.py", "python_client.py", "openai_client.py", "deepgram_client.py"])
def test_a_client_prints_what_was_said(example: str, url: str, wav: Path) -> None:
    assert NAME in run(example, wav, url)


def test_a_client_sends_any_file(url: str) -> None:
    assert NAME in run("python_client.py", READING, url)


async def test_any_start_function_is_a_speech_service(wav: Path) -> None:
    with serving(SPEECHBRIDGE_START="own_sdk:start", PYTHONPATH=str(EXAMPLES)) as (_, said):
        heard = await messages(url_in(said), wav.read_bytes())
    assert [message["elements"][0]["value"] for message in heard] == [f"second {count}" for count in range(1, 7)]


async def test_a_processor_adds_to_finals(wav: Path) -> None:
    with serving(SPEECHBRIDGE_PROCESSORS="processor:add_speed", PYTHONPATH=str(EXAMPLES)) as (_, said):
        heard = await messages(url_in(said), wav.read_bytes())
    speeds = [message["words_per_minute"] for message in heard if message["type"] == "final"]
    assert speeds
    assert all(60 < speed < 300 for speed in speeds)


async def test_an_application_of_ones_own_has_captions_at_its_path(wav: Path) -> None:
    with own_app() as address:
        pages = [await asyncio.to_thread(read, f"http://{address}/{path}") for path in ("", "speech/")]
        heard = await messages(f"ws://{address}/speech", wav.read_bytes())
    assert pages[0] == '"the captions are at /speech/"'
    assert "<title>" in pages[1]
    assert NAME in "".join(element["value"] for element in heard[-1]["elements"])
