"""What a client is told when the function behind the service is no SDK, or ends too early."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

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
