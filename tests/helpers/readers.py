"""A speaker whose chunks are answered with finals that carry when their chunk was sent, and a thousand readers.

    python -m tests.helpers.readers URL TOKEN

connects the readers and prints `ready`; after the end it prints the delays of each reader's finals, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from speechbridge.protocol.messages import EOS, Element, Final
from tests.helpers.service import STREAM

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterator

READERS = 1000
AT_ONCE = 50  # connections made at once
PATIENCE = 300.0  # seconds, for a thousand readers on a busy machine
QUIET: dict[str, Any] = {"compression": None, "ping_interval": None, "open_timeout": 60, "close_timeout": 0.1}
SHARED = f"{STREAM}&share=true"
ECHOES = "tests.helpers.readers:echoes"


def echoes(audio: Iterator[bytes]) -> Iterator[str]:
    """Yield a final for each chunk, with the time at which it was sent."""
    for number, chunk in enumerate(audio):
        sent = chunk.decode().strip("\0")
        yield Final(number, number + 1.0, (Element(sent, ts=number, end_ts=number + 0.5),)).encode()


async def delays(reader: ClientConnection) -> list[float]:
    """Read to the end; return the delay of each final since its chunk was sent, in seconds."""
    found: list[float] = []
    try:
        while True:
            message = json.loads(await reader.recv())
            assert message["ts"] == len(found)
            found.append(time.monotonic() - float(message["elements"][0]["value"]))
    except ConnectionClosed:
        assert reader.close_code == 1000
    return found


async def speak(speaker: ClientConnection, finals: int, every: float) -> list[float]:
    """Send a chunk every so many seconds; return the delay of each final, in seconds."""

    async def send() -> None:
        begun = time.monotonic()
        for number in range(1, finals + 1):
            await speaker.send(f"{time.monotonic():020.6f}".encode().ljust(3200, b"\0"))
            await asyncio.sleep(max(0.0, begun + number * every - time.monotonic()))
        await speaker.send(EOS)

    sending = asyncio.create_task(send())
    found = await delays(speaker)
    await sending
    return found


def p99(delays: list[float]) -> float:
    return sorted(delays)[int(0.99 * len(delays))]


@asynccontextmanager
async def reading(url: str, token: str) -> AsyncIterator[Process]:
    """Run the readers in a process of their own, so that they do not delay the speaker's client."""
    command = [sys.executable, "-m", "tests.helpers.readers", url, token]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, limit=2**24)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def delays_of(process: Process) -> list[list[float]]:
    """Return the delays that each reader has measured."""
    assert process.stdout is not None
    found: list[list[float]] = json.loads(await process.stdout.readline())
    return found


async def main(url: str, token: str) -> None:
    async with AsyncExitStack() as stack:
        readers: list[ClientConnection] = []
        for _ in range(READERS // AT_ONCE):
            dialled = (connect(f"{url}/read/{token}", proxy=None, **QUIET) for _ in range(AT_ONCE))
            readers += await asyncio.gather(*(stack.enter_async_context(one) for one in dialled))
        print("ready", flush=True)
        print(json.dumps(await asyncio.gather(*(delays(reader) for reader in readers))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
