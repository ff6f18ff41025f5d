"""The main job, whole: real speech through a real service, its embedded recognizer and Rev.ai's own SDKs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.client.stream import connect
from speechbridge.protocol.messages import Final, Partial, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from tests.helpers.clip import READ, READING, chunks, words_right
from tests.helpers.command import speechbridge
from tests.helpers.service import PATIENCE, client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


def hypothesis(response: str) -> Partial | Final:
    message = parse_message(response)
    assert isinstance(message, Partial | Final)
    return message


def test_transcribe_needs_nothing_but_a_file() -> None:
    ran = speechbridge("transcribe", "--pace", "fast", str(READING), SPEECHBRIDGE_PORT="1")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == list(READ)
    assert ran.stderr == "speechbridge: no service listens on port 1; running one for this command\n"


async def test_rev_ais_sdk_gets_partials_while_one_speaks_and_the_words_in_the_end() -> None:
    """At the pace of speech: a partial is there before the last chunk is sent."""
    sent, first_answer = 0, 0
    closes: list[tuple[int, str]] = []
    audio = chunks()

    def microphone() -> Iterator[bytes]:
        nonlocal sent
        begun = time.monotonic()
        for number, chunk in enumerate(audio):
            time.sleep(max(0.0, begun + number / 10 - time.monotonic()))
            sent += 1
            yield chunk

    def stream(url: str) -> list[Partial | Final]:
        nonlocal first_answer
        sdk = RevAiStreamingClient(
            "any",
            MediaConfig("audio/x-raw", "interleaved", 16000, "S16LE", 1),
            on_close=lambda code, reason: closes.append((code, reason)),
            url=url,
        )
        heard = []
        for response in sdk.start(microphone()):
            first_answer = first_answer or sent
            heard.append(hypothesis(response))
        sdk.request_thread.join(PATIENCE)
        sdk.client.shutdown()
        return heard

    async with service(None, recognizer_threads=1) as server:
        heard = await asyncio.to_thread(stream, server.url)
    assert words_right(heard) > 0.95
    assert 0 < first_answer < len(audio)
    assert closes == [(1000, "End of input. Closing")]


async def test_the_plain_face_needs_no_query() -> None:
    async with service(None, recognizer_threads=1) as server, client(server) as socket:
        for chunk in chunks():
            await socket.send(chunk)
        await socket.send("EOS")
        messages, close = await ending(socket)
    assert words_right([hypothesis(str(message)) for message in messages]) > 0.95
    assert close.code == 1000


async def test_timestamps_begin_at_start_ts_and_every_word_has_its_own() -> None:
    request = StreamRequest(ContentType.raw(), {"start_ts": 100.0})
    async with service(None, recognizer_threads=1) as server, connect(server.url, request) as stream:
        spoken = asyncio.Event()

        async def speak() -> None:
            for number, chunk in enumerate(chunks()):
                if number == 30:
                    await spoken.wait()  # after 3 s of live speech something is shown
                await stream.send(chunk)
            await stream.end()

        speaking = asyncio.create_task(speak())
        heard = []
        async for message in stream:
            heard.append(message)
            spoken.set()
        await speaking
    finals = [message for message in heard if isinstance(message, Final)]
    words = [word for final in finals for word in final.words]
    times = [(word.ts, word.end_ts) for word in words]
    assert all(a is not None and b is not None and a < b for a, b in times)
    assert times == sorted(times, key=lambda time: time[0] or 0)
    assert 100.0 < (words[0].ts or 0) < 101.5
    assert (words[-1].end_ts or 0) < 100 + sum(map(len, chunks())) / 32000
    assert all(word.confidence is not None and 0 <= word.confidence <= 1 for word in words)
    assert any(isinstance(message, Partial) for message in heard)
