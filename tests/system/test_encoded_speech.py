"""Real speech as clients record it, through the service and its embedded recognizer, as it is spoken."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
import pytest
from websockets.asyncio.client import connect

from speechbridge.protocol.messages import Final, Partial, parse_message
from speechbridge.protocol.request import PATH
from tests.helpers.clip import words_right
from tests.helpers.encoded import FORMS, OGG, WEBM, Form, reading
from tests.helpers.service import ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

    from speechbridge.server.run import Server

pytestmark = pytest.mark.slow

SECONDS = 14.0  # of speech, and more than there are
PATIENCE = 90.0  # seconds; a busy machine needs as long as the speech lasts, and as much again
STEP = 0.25  # seconds: how often a client sends


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    async with service(None) as running:
        yield running


async def speak(socket: ClientConnection, data: bytes, seconds: float) -> int:
    """Send a recording at the pace of speech; return how many partials had come before its last piece."""
    size, begun = int(len(data) * STEP / seconds), time.monotonic()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    for number, piece in enumerate(pieces):
        await asyncio.sleep(begun + number * STEP - time.monotonic())
        await socket.send(piece)
    await socket.send("EOS")
    return len(pieces)


@pytest.mark.shared_server
@pytest.mark.parametrize("form", [WEBM, OGG, FORMS[11], FORMS[20], FORMS[39]], ids=str)
async def test_the_words_come_while_one_speaks(form: Form, server: Server) -> None:
    data = reading(form, SECONDS)
    url = f"{server.url}{PATH}?content_type={quote(form.media)}"
    with anyio.fail_after(PATIENCE):
        async with connect(url, compression=None, proxy=None) as socket:
            heard: list[tuple[float, Partial | Final]] = []

            async def listen() -> None:
                async for text in socket:
                    message = parse_message(text)
                    if isinstance(message, Partial | Final):
                        heard.append((time.monotonic(), message))

            listening = asyncio.create_task(listen())
            await speak(socket, data, SECONDS)
            spoken = time.monotonic()
            await listening
            _, close = await ending(socket)
    assert close.code == 1000
    assert words_right([message for _, message in heard]) > 0.9
    assert any(isinstance(message, Partial) and at < spoken for at, message in heard)
