"""Do thousands of slow handshakes, through a TLS proxy, keep good clients out?

Method: a third of the slow clients sends nothing, a third sends half of its TLS hello, and a third, over TLS, sends its
request at a byte a second. A slow client that is dropped reconnects at once. The slow clients run in a process of low
priority, because in an attack they would not take this machine's CPU. Meanwhile good clients come one after the other,
each with a TLS and a WebSocket handshake and one request, and are timed from before the TCP connection. Before that,
good clients alone are timed.

    docker compose up -d && SSL_CERT_FILE=root.crt python -m tests.bench.slow_handshakes wss://localhost

Turn the service's limit of handshakes off: SPEECHBRIDGE_HANDSHAKES_PER_MINUTE=0.

Last result, 2 cores, Caddy 2.6: p95 20 ms alone, 49 ms beside 3,000. nginx 1.22 by deploy/samples: 98 ms, 14 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import ssl
import statistics
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from speechbridge.client.flows import flows
from tests.helpers.stack import HALF_HELLO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event

SLOW = 3000
GOOD = 300
PAUSE = 0.1  # seconds between two good clients: all pauses together last until slow clients are dropped and reconnect
ARRIVAL = 10.0  # seconds in which the slow ones arrive
REQUEST = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + b"slow" * 4096


class Crowd:
    """Clients whose handshakes never end."""

    def __init__(self, url: str, number: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._number = number
        self._tls = ssl.create_default_context()
        self.connections = 0

    async def run(self, connected: Event, over: Event) -> None:
        """Run until `over`; set `connected` when there have been as many connections as clients."""
        clients = [asyncio.create_task(self._client(number)) for number in range(self._number)]
        while not over.is_set():
            await asyncio.sleep(0.1)
            if self.connections >= self._number:
                connected.set()
        for client in clients:
            client.cancel()
        await asyncio.wait(clients)

    async def _client(self, number: int) -> None:
        await asyncio.sleep(random.uniform(0, ARRIVAL))
        while True:
            with suppress(OSError):  # dropped, as intended
                await self._dawdle(number)

    async def _dawdle(self, number: int) -> None:
        speaks_tls = number % 3 == 0
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls if speaks_tls else None)
        self.connections += 1
        answer = asyncio.create_task(reader.read())
        try:
            if number % 3 == 1:
                writer.write(HALF_HELLO)
            for byte in REQUEST if speaks_tls else b"":
                writer.write(bytes([byte]))
                if (await asyncio.wait({answer}, timeout=1))[0]:
                    break
            await answer
        finally:
            answer.cancel()
            writer.transport.abort()


def _run(url: str, number: int, connected: Event, over: Event) -> None:
    os.nice(10)
    crowd = Crowd(url, number)
    asyncio.run(crowd.run(connected, over))
    print(f"slow clients: {crowd.connections} connections, with those that were dropped and came again")


@contextmanager
def crowd(url: str, number: int) -> Iterator[None]:
    """Keep so many slow clients connected in the block; enters it when all have connected."""
    spawning = multiprocessing.get_context("spawn")
    connected, over = spawning.Event(), spawning.Event()
    process = spawning.Process(target=_run, args=(url, number, connected, over))
    process.start()
    try:
        while not connected.wait(1):
            if not process.is_alive():
                raise RuntimeError("the slow clients failed")
        yield
    finally:
        over.set()
        process.join()


async def good(url: str, number: int) -> list[float]:
    """Return how many seconds each of so many clients took to get its answer."""
    took = []
    for _ in range(number):
        begun = time.monotonic()
        async with flows(url) as connection:
            await connection.text("Hello")
            took.append(time.monotonic() - begun)
        await asyncio.sleep(PAUSE)
    return took


def show(what: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=100)
    print(f"{what}: median {cuts[49] * 1000:.0f} ms, p95 {cuts[94] * 1000:.0f} ms, last {max(took) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the service's base, wss://...")
    parser.add_argument("--slow", type=int, default=SLOW)
    parser.add_argument("--good", type=int, default=GOOD)
    arguments = parser.parse_args()
    show(f"{arguments.good} good clients alone", asyncio.run(good(arguments.url, arguments.good)))
    with crowd(arguments.url, arguments.slow):
        show(f"beside {arguments.slow} slow clients", asyncio.run(good(arguments.url, arguments.good)))


if __name__ == "__main__":
    main()
