"""The recognizer as a process, with the real SDK as its client: words, places, endings."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import wave
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType
from speechbridge.recognizer.server import SHUTTING_DOWN
from speechbridge.recognizer.streams import FULL
from tests.helpers.clip import FIRST_SENTENCE, RATE, READ, pcm
from tests.helpers.processes import children
from tests.helpers.raw_client import client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

PATIENCE = 20.0  # seconds; only a failing test waits so long


@contextmanager
def recognizer(*arguments: str, module: str = "speechbridge.recognizer") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until it is told to end; its URL comes from the one line that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(  # our own command
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            words = process.stdout.readline().split()
            assert words[:2] == ["listening", "on"]
            yield process, words[2]
        finally:
            process.terminate()
            process.wait(PATIENCE)


def stream(url: str, audio: bytes, **options: Any) -> tuple[list[Any], list[tuple[int, str]]]:
    """Stream with the unmodified SDK. The last chunk is held back until there was a response."""
    heard, closes = threading.Event(), list[tuple[int, str]]()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(audio), 3200):
            if start + 3200 >= len(audio):
                assert heard.wait(PATIENCE)
            yield audio[start : start + 3200]

    client = RevAiStreamingClient(
        "token",
        MediaConfig("audio/x-raw", "interleaved", 16000, "S16LE", 1),
        url=url,
        on_close=lambda code, reason: closes.append((code, reason)),
        on_connected=lambda _: None,
    )
    responses = []
    for response in client.start(chunks(), **options):
        heard.set()
        responses.append(json.loads(response))
    client.request_thread.join(PATIENCE)
    client.client.shutdown()
    return responses, closes


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[subprocess.Popen[str], str]]:
    with recognizer("--threads", "1", "--streams", "2") as running:
        yield running


@pytest.mark.shared_server
def test_the_unmodified_sdk_hears_partials_before_its_last_chunk(shared: tuple[subprocess.Popen[str], str]) -> None:
    responses, closes = stream(shared[1], pcm(seconds=6.0), start_ts=10)
    assert responses[0]["type"] == "partial"
    assert responses[-1]["type"] == "final"
    said = "".join(element["value"] for element in responses[-1]["elements"])
    assert said.removesuffix(".") == READ[0].partition(" to do")[0]
    assert 10 < responses[-1]["ts"] < 11
    assert closes == [(1000, END_OF_INPUT)]


@pytest.mark.shared_server
async def test_a_wav_file_is_recognised(shared: tuple[subprocess.Popen[str], str]) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(pcm(seconds=FIRST_SENTENCE))
    async with client(shared[1], "content_type=audio/x-wav") as c:
        await c.send(file.getvalue())
        await c.send("EOS")
        messages, close = await c.rest()
    last = parse_message(str(messages[-1]))
    assert isinstance(last, Final)
    assert last.text == READ[0]
    assert close == Close(1000, END_OF_INPUT)


@pytest.mark.shared_server
@pytest.mark.parametrize(
    ("query", "audio", "said"),
    [
        ("content_type=audio/x-flac", b"", "send audio/x-raw"),
        (f"content_type={ContentType.raw()}".replace("S16LE", "F32LE"), b"", "only format=S16LE"),
        (f"content_type={ContentType.raw(16000, 2)}".replace("inter", "non-inter"), b"", "must be interleaved"),
        (f"content_type={ContentType.raw()}&language=fr", b"", "language=en"),
        ("content_type=audio/x-wav", b"a letter, not a sound", "16-bit PCM"),
    ],
)
async def test_what_it_cannot_decode_is_refused_with_the_cure(
    shared: tuple[subprocess.Popen[str], str], query: str, audio: bytes, said: str
) -> None:
    async with client(shared[1], query) as c:
        await c.try_to_send(audio)
        _, close = await c.rest()
    assert close
    assert close.code == CloseCode.BAD_REQUEST
    assert said in close.reason


@pytest.mark.shared_server
async def test_one_stream_too_many_is_refused_with_4013(shared: tuple[subprocess.Popen[str], str]) -> None:
    url = shared[1]
    async with client(url) as first, client(url) as second:
        await first.next()
        await second.next()
        async with client(url) as third:
            assert (await third.rest())[1] == FULL
        for c in (first, second):
            await c.send(bytes(32000))
            await c.send("EOS")
            assert (await c.rest())[1] == Close(1000, END_OF_INPUT)
    async with client(url) as fourth:
        await fourth.next()


@pytest.mark.shared_server
def test_all_of_it_is_one_process(shared: tuple[subprocess.Popen[str], str]) -> None:
    """So whoever kills the recognizer leaves nobody behind."""
    assert children(shared[0].pid) == []


async def test_shutdown_says_so() -> None:
    with recognizer("--threads", "2") as (process, url):
        async with client(url) as c:
            await c.next()
            process.terminate()
            _, close = await c.rest()
        assert process.wait(PATIENCE) == 0
    assert close == SHUTTING_DOWN


async def test_shutdown_in_the_middle_of_decoding_is_quick() -> None:
    with recognizer("--threads", "1") as (process, url):
        async with client(url) as c:
            await c.next()
            await c.send(pcm())
            await c.next()  # a partial: the rest is being decoded
            process.terminate()
            _, close = await c.rest()
        assert process.wait(5) == 0
    assert close == SHUTTING_DOWN


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where it cannot start."""
    command = [sys.executable, "-m", "speechbridge.recognizer", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    ran = refused("--model", str(tmp_path / "nowhere"))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"cannot start: there is no model in {tmp_path}/nowhere: that folder does not exist\n"


def test_a_parent_that_waits_for_the_announcement_is_told_the_reason_there(tmp_path: Path) -> None:
    ran = refused("--supervised", "--model", str(tmp_path))
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith("cannot start: ")
    assert ran.stdout.count("\n") == 1


def test_it_ends_with_its_parent_when_supervised(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[[{"do": "greet"}]]')
    with recognizer("--supervised", "--script", str(script), module="speechbridge.testing") as (process, _):
        assert process.stdin
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


async def test_a_script_file_is_played(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[[{"do": "end", "code": 4003, "reason": "no credits"}]]')
    with recognizer("--script", str(script), module="speechbridge.testing") as (_, url):
        async with client(url) as c:
            assert (await c.rest())[1] == Close(4003, "no credits")
