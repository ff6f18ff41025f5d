"""A thousand readers of one speaker, and readers that do not read."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from speechbridge.protocol.messages import Element, Final
from tests.helpers.command import serving, url_in
from tests.helpers.readers import ECHOES, PATIENCE, READERS, SHARED, delays_of, p99, reading, speak
from tests.helpers.service import client, service

if TYPE_CHECKING:
    from collections.abc import Iterator

FINALS = 20
EVERY = 0.5  # seconds


async def test_a_thousand_readers_have_each_final_soon() -> None:
    # Nobody reads its log: a full pipe would stop it.
    with serving(SPEECHBRIDGE_START=ECHOES, SPEECHBRIDGE_LOG_LEVEL="warning") as (_, announced):
        url = url_in(announced)
        async with (
            asyncio.timeout(PATIENCE),
            connect(url + SHARED, proxy=None, compression=None) as speaker,
            reading(url, json.loads(await speaker.recv())["read"]) as readers,
        ):
            during = await speak(speaker, FINALS, EVERY)
            read = await delays_of(readers)
    assert [len(one) for one in read] == [FINALS] * READERS
    every = [delay for one in read for delay in one]
    print(f"\n{READERS} readers: finals within {p99(every):.3f} s (p99), the speaker's within {p99(during):.3f} s")
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
