"""A thousand readers of one speaker, and readers that do not read."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from speechbridge.protocol.messages import EOS, Element, Final
from tests.helpers.command import serving, url_in
from tests.helpers.service import STREAM, client, service

if TYPE_CHECKING:
    from collections.abc import Iterator

READERS = 1000
AT_ONCE = 50  # connections made at once
FINALS = 20
PATIENCE = 300.0  # seconds, for a thousand readers on a busy machine
QUIET: dict[str, Any] = {"compression": None, "ping_interval": None, "open_timeout": 60, "close_timeout": 0.1}
SHARED = f"{STREAM}&share=true"


def echoes(audio: Iterator[bytes]) -> Iterator[str]:
    """Yield a final for each chunk, with the time at which it was sent."""
    for number, chunk in enumerate(audio):
        sent = chunk.decode().strip("\0")
        yield Final(number, number + 1.0, (Element(sent, ts=number, end_ts=number + 0.5),)).encode()


async def delays(reader: ClientConnection) -> list[float]:
    """Read to the end; return the delay of each final since its chunk was sent."""
    found: list[float] = []
    try:
        while True:
            message = json.loads(await reader.recv())
            assert message["ts"] == len(found)
            found.append(time.monotonic() - float(message["elements"][0]["value"]))
    except ConnectionClosed:
        assert reader.close_code == 1000
    return found


async def speak(speaker: ClientConnection) -> list[float]:
    """Send a chunk every half second; return the delay of each final."""

    async def send() -> None:
        for _ in range(FINALS):
            await speaker.send(f"{time.monotonic():020.6f}".encode().ljust(3200, b"\0"))
            await asyncio.sleep(0.5)
        await speaker.send(EOS)

    sending = asyncio.create_task(send())
    found = await delays(speaker)
    await sending
    return found


def p99(found: list[float]) -> float:
    return sorted(found)[int(0.99 * len(found))]


async def test_a_thousand_readers_have_each_final_soon_and_hold_the_speaker_up_no_more_than_a_little() -> None:
    # Nobody reads its log: a full pipe would stop it.
    settings = {"SPEECHBRIDGE_START": "tests.chaos.test_readers:echoes", "SPEECHBRIDGE_LOG_LEVEL": "warning"}
    with serving(**settings) as (_, announced):
        url = url_in(announced)
        async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            alone = await stack.enter_async_context(connect(url + SHARED, proxy=None, compression=None))
            await alone.recv()
            before = await speak(alone)
            speaker = await stack.enter_async_context(connect(url + SHARED, proxy=None, compression=None))
            token = json.loads(await speaker.recv())["read"]
            readers: list[ClientConnection] = []
            for _ in range(READERS // AT_ONCE):
                dialled = (connect(f"{url}/read/{token}", proxy=None, **QUIET) for _ in range(AT_ONCE))
                readers += await asyncio.gather(*(stack.enter_async_context(one) for one in dialled))
            reading = [asyncio.create_task(delays(reader)) for reader in readers]
            during = await speak(speaker)
            read = await asyncio.gather(*reading)
    assert [len(one) for one in read] == [FINALS] * READERS
    every = [delay for one in read for delay in one]
    print(
        f"\n{READERS} readers: finals within {p99(every) * 1000:.0f} ms (p99); the speaker's within"
        f" {p99(during) * 1000:.0f} ms (p99, median {sorted(during)[FINALS // 2] * 1000:.1f}), before within"
        f" {p99(before) * 1000:.0f} ms (median {sorted(before)[FINALS // 2] * 1000:.1f})"
    )
    assert p99(every) < 0.5


def talks_much(audio: Iterator[bytes]) -> Iterator[str]:
    """Yield a final of a megabyte for each chunk."""
    for number, _ in enumerate(audio):
        yield Final(number, number + 1.0, (Element("x" * 2**20, ts=number, end_ts=number + 0.5),)).encode()


@pytest.mark.parametrize("kind", ["WebSocket", "server-sent events"])
async def test_one_that_does_not_read_is_gone_within_45_seconds(kind: str) -> None:
    async with service(talks_much) as server, connect(server.url + SHARED, max_size=None, compression=None) as speaker:
        token = json.loads(await speaker.recv())["read"]
        host, port = server.url.removeprefix("ws://").split(":")
        stream, out = await asyncio.open_connection(host, int(port), limit=2**10)
        upgrade = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        lines = [f"GET /read/{token} HTTP/1.1", f"Host: {host}:{port}", *(upgrade if kind == "WebSocket" else [])]
        out.write("\r\n".join([*lines, "", ""]).encode())
        await stream.readline()
        readers = server.app.state.readers
        begun = time.monotonic()
        while readers.reading == 1 and time.monotonic() < begun + 60:
            await speaker.send(bytes(3200))
            await speaker.recv()
            await asyncio.sleep(0.5)
        took = time.monotonic() - begun
        out.transport.abort()
        await speaker.close()
        async with client(server, f"/read/{token}") as other:
            await other.close()
    print(f"\na reader that did not read, over {kind}: dropped after {took:.0f} s")
    assert took < 45
