"""What a client is told when the function behind the service is no SDK, or ends too early."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.engines import reconnect
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.protocol.messages import Element, Final
from syncbridge.resumable import attempt
from tests.helpers.service import PATIENCE, STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


async def coroutine(_audio: Iterator[bytes]) -> list[str]:
    return ["text"]


async def async_generator(_audio: Iterator[bytes]) -> AsyncIterator[str]:
    yield "text"


def returns_text(_audio: Iterator[bytes]) -> str:
    return "text"


def yields_dicts(_audio: Iterator[bytes]) -> Iterator[dict[str, str]]:
    yield {"text": "text"}


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (coroutine, "`async def`"),
        (async_generator, "async iterator"),
        (returns_text, "a str, which is one response"),
        (yields_dicts, "a dict: each response must be a str"),
    ],
)
async def test_a_function_that_is_no_sdk_is_named_in_the_close_and_in_the_log(
    start: Callable[..., Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with service(start) as server, client(server, STREAM) as socket:
        messages, close = await ending(socket)
    assert [str(message) for message in messages if "connected" not in str(message)] == []
    assert close.code == 1011
    assert named in close.reason
    assert named in caplog.text


async def test_a_function_that_ends_before_its_audio_is_no_success() -> None:
    def early(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"{len(next(audio))} bytes"

    async with service(early) as server, client(server, STREAM) as socket:
        await socket.send(bytes(3200))
        messages, close = await ending(socket)
    assert str(messages[-1]) == "3200 bytes"
    assert close.code == 1011
    assert "finished before its input ended" in close.reason


@pytest.mark.slow
async def test_a_function_that_nothing_wakes_does_not_keep_its_client_waiting() -> None:
    """Its slot stays taken until it returns; its client is told."""
    go_on = threading.Event()

    def deaf(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        go_on.wait(PATIENCE)
        yield from ()

    async with service(deaf, answer_seconds=0.1) as server, client(server, STREAM) as socket:
        await socket.send("EOS")
        _, close = await ending(socket)
        go_on.set()
    assert close.code == 1011
    assert close.reason == "the speech SDK is stuck: the input ended, and for 0.1 s nothing new came"


@pytest.mark.parametrize(
    ("answers", "code", "reason"),
    [
        (False, 1011, "the speech SDK is stuck: the input ended, and for 0.1 s nothing new came"),
        (True, 1000, END_OF_INPUT),
    ],
)
@pytest.mark.slow
async def test_nor_does_one_whose_streams_are_resumed(
    answers: object, code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it has answered everything, and just does not end, the stream is a success."""
    monkeypatch.setattr(attempt, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(reconnect, "LINGER_SECONDS", 0.01)
    go_on = threading.Event()

    def deaf(audio: Iterator[bytes]) -> Iterator[str]:
        heard = sum(map(len, audio))
        if answers:
            yield Final(0.0, heard / 32000, (Element("all"),)).encode()
        go_on.wait(PATIENCE)

    deaf.settled = settled_by_final  # type: ignore[attr-defined] # a function's attributes are how it says so
    async with service(deaf, answer_seconds=0.1) as server, client(server, STREAM) as socket:
        await socket.send(b"\x00\x40" * 16000)
        await socket.send("EOS")
        _, close = await ending(socket)
        go_on.set()
    assert (close.code, close.reason) == (code, reason)
