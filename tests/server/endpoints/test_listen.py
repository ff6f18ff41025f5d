"""Deepgram's live API through the whole service, with an SDK that says what it heard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.server.admission import make_key
from speechbridge.server.endpoints import listen
from tests.helpers.encoded import WEBM, reading
from tests.helpers.service import client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.protocol.request import StreamRequest

LISTEN = "/v1/listen"
RAW = f"{LISTEN}?encoding=linear16&sample_rate=16000&punctuate=true"
SECOND = bytes(32000)
FINALIZE, KEEP_ALIVE, CLOSE = (json.dumps({"type": kind}) for kind in ("Finalize", "KeepAlive", "CloseStream"))
KEY, LINE = make_key("alice")


def counting(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    """Say a word for each second, when it is there; at the end another for what is left. Times are the stream's."""
    begin = float(request.options["start_ts"])
    heard = said = 0.0
    for chunk in audio:
        heard += len(chunk) / 32000
        while heard >= said + 1:
            said += 1
            yield word(begin + said - 1, begin + said)
    if heard > said:
        yield word(begin + said, begin + heard)


def word(begin: float, end: float) -> str:
    spoken = Element(f"W{begin:g}", ts=begin, end_ts=end, confidence=0.9)
    return Final(begin, end, (spoken, Element(".", "punct"))).encode()


async def conversation(path: str, *messages: bytes | str, **settings: object) -> tuple[list[dict[str, Any]], int]:
    """Say all this; return what the service said, and with which code it closed."""
    async with service(counting, **settings) as server, client(server, path) as socket:
        for message in messages:
            await socket.send(message)
        told, close = await ending(socket)
    return [json.loads(message) for message in told], close.code


def transcripts(told: list[dict[str, Any]]) -> list[str]:
    return [each["channel"]["alternatives"][0]["transcript"] for each in told if each["type"] == "Results"]


async def test_results_come_and_the_summary_is_the_last() -> None:
    told, code = await conversation(RAW, SECOND, SECOND, CLOSE)
    assert transcripts(told) == ["W0.", "W1."]
    assert (told[-1]["type"], told[-1]["duration"], told[-1]["channels"], code) == ("Metadata", 2.0, 1, 1000)
    assert told[-1]["request_id"] == told[0]["metadata"]["request_id"]


async def test_finalize_gives_what_is_left_and_times_run_on() -> None:
    told, code = await conversation(RAW, SECOND[:16000], FINALIZE, KEEP_ALIVE, SECOND, FINALIZE, CLOSE)
    results = told[:-1]
    assert [(each["start"], each["from_finalize"]) for each in results] == [(0.0, True), (0.5, True)]
    assert [each["channel"]["alternatives"][0]["words"][0]["start"] for each in results] == [0.0, 0.5]
    assert (told[-1]["duration"], code) == (1.5, 1000)


@pytest.mark.parametrize("before", [(), (SECOND, FINALIZE)])
async def test_finalize_of_nothing_gives_an_empty_result(before: tuple[bytes | str, ...]) -> None:
    told, _ = await conversation(RAW, *before, FINALIZE, CLOSE)
    assert (told[-2]["from_finalize"], transcripts(told)[-1]) == (True, "")


@pytest.mark.slow
@pytest.mark.parametrize("waits", [0.05, 30.0])
async def test_finalize_of_a_container_is_answered_as_well(waits: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def starting(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield Partial(0.0, 0.5, (Element("W0", ts=0.0, end_ts=0.5),)).encode()
        if waits < 1 or any(True for _ in audio):
            yield word(0.0, 1.0)
        for _ in audio:
            pass

    recorded = reading(WEBM, 2.0)
    monkeypatch.setattr(listen, "FINALIZE_SECONDS", waits)
    async with service(starting) as server, client(server, f"{LISTEN}?interim_results=true") as socket:
        await socket.send(recorded[:4000])
        assert json.loads(await socket.recv())["is_final"] is False
        await socket.send(FINALIZE)
        await socket.send(recorded[4000:])
        told = [json.loads(await socket.recv())]
        while not told[-1].get("from_finalize"):
            told.append(json.loads(await socket.recv()))
        await socket.send(CLOSE)
        rest, close = await ending(socket)
    assert sum(each["from_finalize"] for each in told) == 1
    assert close.code == 1000
    assert json.loads(rest[-1])["type"] == "Metadata"
    assert json.loads(rest[-1])["duration"] == pytest.approx(2.0, abs=0.3)


async def test_a_text_that_is_not_understood_is_answered_and_the_connection_lives() -> None:
    told, code = await conversation(RAW, "hello", SECOND, CLOSE)
    assert (told[0]["type"], told[0]["message"], transcripts(told), code) == ("Error", "hello", ["W0."], 1000)


async def test_an_empty_message_ends_the_input_as_in_older_sdks() -> None:
    told, code = await conversation(RAW, SECOND, b"")
    assert (told[-1]["type"], code) == ("Metadata", 1000)


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [("encoding=amr-wb&sample_rate=16000", 400, "amr-wb"), ("multichannel=true", 400, "multichannel")],
)
async def test_what_is_not_supported_is_a_status_with_the_reason(query: str, status: int, named: str) -> None:
    async with service(counting) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with client(server, f"{LISTEN}?{query}"):
                pass
    response = refused.value.response
    assert response.status_code == status
    assert named in response.headers["dg-error"]
    assert named in json.loads(response.body or b"")["err_msg"]


@pytest.mark.parametrize(
    "given",
    [
        {"additional_headers": {"Authorization": f"Token {KEY}"}},
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {"subprotocols": [Subprotocol("token"), Subprotocol(KEY)]},
        {"subprotocols": [Subprotocol("bearer"), Subprotocol(KEY)]},
    ],
    ids=["token", "bearer", "subprotocol token", "subprotocol bearer"],
)
async def test_a_key_is_taken_wherever_an_sdk_puts_it(given: dict[str, Any]) -> None:
    async with service(counting, api_keys=LINE) as server:
        async with client(server, RAW, **given) as socket:
            assert socket.subprotocol == (given["subprotocols"][0] if "subprotocols" in given else None)
            await socket.send(CLOSE)
            assert json.loads(await socket.recv())["type"] == "Metadata"
        with pytest.raises(InvalidStatus) as refused:
            async with client(server, RAW):
                pass
    assert refused.value.response.status_code == 401
    assert "API key" in refused.value.response.headers["dg-error"]


async def test_plain_text_of_another_sdk_is_a_transcript() -> None:
    def plain(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            pass
        yield "Hello there"

    async with service(plain) as server, client(server, RAW) as socket:
        await socket.send(SECOND)
        await socket.send(CLOSE)
        told, _ = await ending(socket)
    assert transcripts([json.loads(message) for message in told]) == ["Hello there"]
