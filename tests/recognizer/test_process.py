"""The recognizer as a process, with the real SDK as its client: words, places, deaths."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.conversation import Refused
from speechbridge.recognizer.pool import DIED, FULL, decoding
from speechbridge.recognizer.server import SHUTTING_DOWN
from tests.helpers.raw_client import client

from .test_sphinx import RECORDINGS, SPOKEN, needs_speech, recording

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


@contextmanager
def watched(process: int) -> Iterator[Any]:
    """Give a function that waits for the end of a process which is not our child."""
    descriptor = os.pidfd_open(process)
    try:
        yield lambda: bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


def stream(url: str, pcm: bytes, **options: Any) -> tuple[list[Any], list[tuple[int, str]]]:
    """Stream with the unmodified SDK. The last chunk is held back until there was a response."""
    heard, closes = threading.Event(), list[tuple[int, str]]()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(pcm), 3200):
            if start + 3200 >= len(pcm):
                assert heard.wait(PATIENCE)
            yield pcm[start : start + 3200]

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
    with recognizer("--processes", "1", "--streams", "2") as running:
        yield running


@needs_speech
@pytest.mark.shared_server
@pytest.mark.parametrize("name", SPOKEN)
def test_the_unmodified_sdk_hears_partials_before_its_last_chunk(
    shared: tuple[subprocess.Popen[str], str], name: str
) -> None:
    responses, closes = stream(shared[1], recording(name), start_ts=10)
    assert responses[0]["type"] == "partial"
    assert responses[-1]["type"] == "final"
    assert "".join(element["value"] for element in responses[-1]["elements"]) == SPOKEN[name]
    assert responses[-1]["ts"] > 10
    assert closes == [(1000, END_OF_INPUT)]


@needs_speech
@pytest.mark.shared_server
async def test_a_wav_file_is_recognised(shared: tuple[subprocess.Popen[str], str]) -> None:
    file = (RECORDINGS / "goforward.wav").read_bytes()
    async with client(shared[1], "content_type=audio/x-wav") as c:
        await c.send(file)
        await c.send("EOS")
        messages, close = await c.rest()
    last = parse_message(str(messages[-1]))
    assert isinstance(last, Final)
    assert last.text == SPOKEN["goforward"]
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
async def test_one_too_many_is_told_to_come_later(shared: tuple[subprocess.Popen[str], str]) -> None:
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
async def test_streams_of_a_process_that_dies_may_connect_again(shared: tuple[subprocess.Popen[str], str]) -> None:
    process, url = shared
    (worker,) = children(process.pid)
    async with client(url) as c:
        await c.next()
        with watched(worker) as ended:
            os.kill(worker, signal.SIGKILL)
            assert ended()
        await c.try_to_send(bytes(3200), "EOS")
        assert (await c.rest())[1] == DIED
    close: Close | None = FULL
    while close == FULL:  # until the process is replaced
        async with client(url) as c:
            await c.try_to_send(bytes(3200), "EOS")
            close = (await c.rest())[1]
    assert close == Close(1000, END_OF_INPUT)
    assert children(process.pid) != [worker]


async def test_a_process_that_does_not_reply_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechbridge.recognizer.pool.REPLY_TIMEOUT", 0.01)
    before = set(children(os.getpid()))
    async with decoding(processes=1, streams=1) as pool:
        (worker,) = set(children(os.getpid())) - before
        stream = pool.open(StreamRequest(ContentType.raw()))
        os.kill(worker, signal.SIGSTOP)
        with watched(worker) as ended:
            with pytest.raises(Refused) as refused:
                await stream.feed(bytes(3200))
            assert ended()
        stream.close()
    assert refused.value.close == DIED


async def test_shutdown_says_so_and_leaves_nobody_behind() -> None:
    with recognizer("--processes", "2") as (process, url), ExitStack() as stack:
        ends = [stack.enter_context(watched(worker)) for worker in children(process.pid)]
        async with client(url) as c:
            await c.next()
            process.terminate()
            _, close = await c.rest()
        assert process.wait(PATIENCE) == 0
        assert len(ends) == 2
        assert all(ended() for ended in ends)
    assert close == SHUTTING_DOWN


def test_nobody_outlives_a_killed_recognizer() -> None:
    with recognizer("--processes", "1") as (process, _), ExitStack() as stack:
        (ended,) = [stack.enter_context(watched(worker)) for worker in children(process.pid)]
        process.kill()
        assert ended()


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
