"""Deepgram's live API over a socket, with a stub in the engine's place."""

from __future__ import annotations

import json
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus

from speechbridge.protocol.deepgram import LISTEN
from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.server.admission import make_key
from speechbridge.server.endpoints import deepgram
from speechbridge.testing.script import End, Greet, Scripted, Wait
from tests.helpers.encoded import OGG, reading
from tests.helpers.secrets import KNOWN
from tests.helpers.service import client, ending, service, service_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from websockets.asyncio.client import ClientConnection

KEY, LINE = make_key("grace")
KNOWN.add(KEY)
PATH = f"{LISTEN}?model=nova-3&encoding=linear16&sample_rate=16000"
SECOND = bytes(32000)
FINALIZE, CLOSE, KEEP_ALIVE = (json.dumps({"type": kind}) for kind in ("Finalize", "CloseStream", "KeepAlive"))


def counts(audio: Iterator[bytes]) -> Iterator[str]:
    """An engine that says at the end of each session how many bytes there were."""
    size = sum(map(len, audio))
    yield Final(0.25, 1.0, (Element(f"{size}", "text", 0.25, 1.0, 1.0),)).encode()


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, *messages: bytes | str) -> None:
        for message in messages:
            await self.socket.send(message)

    async def next(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.socket.recv())
        return found


def transcript(message: dict[str, Any]) -> str:
    assert message["type"] == "Results"
    return str(message["channel"]["alternatives"][0]["transcript"])


@asynccontextmanager
async def connected(start: Any = counts, path: str = PATH, **options: Any) -> AsyncIterator[Client]:
    async with service(start) as server, client(server, path, **options) as socket:
        yield Client(socket)


async def test_metadata_is_the_last_message_and_then_1000() -> None:
    async with connected() as on:
        await on.send(SECOND, SECOND, KEEP_ALIVE, CLOSE)
        messages, close = await ending(on.socket)
        results, metadata = map(json.loads, messages)
        assert transcript(results) == "64000"
        assert (metadata["type"], metadata["duration"], metadata["channels"]) == ("Metadata", 2.0, 1)
        assert close.code == 1000


@pytest.mark.parametrize("end", [CLOSE, b""])
async def test_a_client_that_sends_nothing_gets_metadata(end: bytes | str) -> None:
    async with connected() as on:
        await on.send(end)
        messages, close = await ending(on.socket)
        assert [json.loads(message)["duration"] for message in messages] == [0.0]
        assert close.code == 1000


async def test_each_finalize_is_answered_once_and_audio_goes_on() -> None:
    async with connected() as on:
        for nth in range(1, 4):
            await on.send(*[SECOND] * nth, FINALIZE)
            told = await on.next()
            assert (transcript(told), told["from_finalize"], told["is_final"]) == (f"{nth * 32000}", True, True)
        await on.send(FINALIZE, FINALIZE)
        for _ in range(2):
            told = await on.next()
            assert (transcript(told), told["from_finalize"], told["start"]) == ("", True, 6.0)
        await on.send(CLOSE)
        assert (await on.next())["duration"] == 6.0


@pytest.mark.parametrize("path", [PATH, LISTEN])
async def test_a_finalize_before_any_audio_is_answered_at_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepgram, "PATIENCE", 3600.0)
    async with connected(counts, path) as on:
        for _ in range(3):
            await on.send(FINALIZE)
            told = await on.next()
            assert (transcript(told), told["from_finalize"], told["start"]) == ("", True, 0.0)


async def test_the_last_of_several_finals_answers_the_finalize() -> None:
    def start(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            pass
        for nth in range(3):
            yield Final(nth, nth + 1, (Element(f"{nth}"),)).encode()

    async with connected(start) as on:
        await on.send(SECOND, FINALIZE)
        told = [await on.next() for _ in range(3)]
        assert [transcript(one) for one in told] == ["0", "1", "2"]
        assert [one["from_finalize"] for one in told] == [False, False, True]


async def test_a_finalize_that_the_engine_does_not_answer_is_answered_with_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deepgram, "PATIENCE", 0.01)
    answers = threading.Event()

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            pass
        answers.wait(5)
        yield Final(0.0, 1.0, (Element("late"),)).encode()

    async with connected(start) as on:
        await on.send(SECOND, FINALIZE)
        told = await on.next()
        assert (transcript(told), told["from_finalize"]) == ("", True)
        answers.set()
        told = await on.next()
        assert (transcript(told), told["from_finalize"]) == ("late", False)
        await on.send(CLOSE)
        assert (await on.next())["type"] == "Metadata"


async def test_a_container_goes_on_over_a_finalize(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepgram, "PATIENCE", 0.01)
    data = reading(OGG, 2.0)
    async with connected(counts, LISTEN) as on:
        await on.send(data[: len(data) // 2], FINALIZE)
        assert (await on.next())["from_finalize"] is True
        await on.send(data[len(data) // 2 :], CLOSE)
        assert abs(int(transcript(await on.next())) / 32000 - 2.0) < 0.1
        metadata = await on.next()
        assert abs(metadata["duration"] - 2.0) < 0.1


async def test_interim_results_speech_started_and_utterance_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepgram, "QUIET", 0.0)

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield Partial(0.25, 0.5, (Element("well", "text", 0.25, 0.5, 0.9),)).encode()
        yield Final(0.25, 0.5, (Element("Well", "text", 0.25, 0.5, 0.9),)).encode()
        for _ in audio:
            pass

    query = "&interim_results=true&vad_events=true&utterance_end_ms=1000"
    async with connected(start, PATH + query) as on:
        await on.send(SECOND)
        assert [(await on.next())["type"] for _ in range(3)] == ["SpeechStarted", "Results", "Results"]
        await on.send(SECOND, SECOND)
        assert (await on.next()) == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 0.5}


async def test_messages_that_are_not_understood_are_told_and_the_connection_lives() -> None:
    async with connected() as on:
        await on.send("EOS", '{"type": "Other"}', '{"type": "Configure", "keyterms": []}')
        assert [(await on.next())["type"] for _ in range(3)] == ["Error", "Error", "ConfigureFailure"]
        await on.send(FINALIZE)
        assert (await on.next())["from_finalize"] is True


async def test_the_upstreams_refusal_is_an_error_and_a_close() -> None:
    script = (Greet(), Wait(messages=1), End(4003, "no credits"))
    async with service_before(Scripted(script)) as server, client(server, PATH) as socket:
        await socket.send(SECOND)
        messages, close = await ending(socket)
        assert json.loads(messages[-1])["description"] == "no credits"
        assert close.code == 4003


@pytest.mark.parametrize(
    ("query", "named"),
    [("encoding=speex", "encoding"), ("diarize=true", "diarize"), ("encoding=linear16", "sample_rate")],
)
async def test_what_is_not_supported_is_400_with_its_name(query: str, named: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connected(counts, f"{LISTEN}?{query}"):
            pass
    response = caught.value.response
    assert response.status_code == 400
    assert named in response.headers["dg-error"]
    assert json.loads(response.body)["err_msg"] == response.headers["dg-error"]


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": f"Token {KEY}"}},
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {"subprotocols": ["token", KEY]},
        {"subprotocols": ["bearer", KEY]},
    ],
)
async def test_a_key_comes_as_deepgrams_clients_send_it(options: dict[str, Any]) -> None:
    async with service(counts, api_keys=LINE) as server, client(server, PATH, **options) as socket:
        assert socket.subprotocol == options.get("subprotocols", [None])[0]
        await socket.send(CLOSE)
        assert (await ending(socket))[1].code == 1000


async def test_without_a_key_it_is_401() -> None:
    async with service(counts, api_keys=LINE) as server:
        for options in ({}, {"subprotocols": ["token", "wrong"]}):
            with pytest.raises(InvalidStatus) as caught:
                async with client(server, PATH, **options):
                    pass
            assert caught.value.response.status_code == 401
            assert json.loads(caught.value.response.body)["err_code"] == "INVALID_AUTH"


async def test_a_message_that_is_too_large_is_an_error_that_names_the_limit_and_a_close() -> None:
    async with service(counts, max_message_bytes=2**10) as server, client(server, PATH) as socket:
        await socket.send(bytes(1025))
        messages, close = await ending(socket)
    assert json.loads(messages[-1])["type"] == "Error"
    assert "1024 bytes" in json.loads(messages[-1])["description"]
    assert close.code == 1009
