"""The account's limit and its queue, over three processes, as the speech service and clients see them."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from speechbridge.protocol.messages import EOS
from speechbridge.recognizer.server import serving
from tests.helpers.puppet import until
from tests.helpers.redis import redis_server
from tests.helpers.replicas import CountingUpstream, replicas
from tests.helpers.service import STREAM

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

PATIENCE = 60.0  # seconds, for processes on a busy machine
SPOKEN = bytes(3200)
UNDER_WAY = 0.3  # seconds that a message may take, on a busy machine

Replica = tuple["subprocess.Popen[str]", str]


@asynccontextmanager
async def account(streams: int, folder: Path) -> AsyncIterator[tuple[CountingUpstream, list[Replica]]]:
    upstream = CountingUpstream()
    async with serving(upstream, handshake_timeout=None) as running:
        with (
            redis_server(folder) as redis,
            replicas(3, redis, running.url, account_streams=str(streams)) as found,
        ):
            yield upstream, found


async def opened(stack: AsyncExitStack, url: str, *, queue: bool = False) -> ClientConnection:
    path = STREAM + "&queue=true" * queue
    return await stack.enter_async_context(connect(url + path, proxy=None, compression=None, close_timeout=0.1))


async def test_a_process_that_stands_still_loses_its_streams_before_another_may_have_them(tmp_path: Path) -> None:
    async with account(2, tmp_path) as (upstream, found), AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        (process, held), (_, other), _ = found
        for _ in range(2):
            client = await opened(stack, held)
            await client.recv()
            await client.send(SPOKEN)
        await until(lambda: upstream.connections == 2)
        begun = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        waiting = await opened(stack, other, queue=True)
        await waiting.send(SPOKEN)
        while json.loads(await waiting.recv())["type"] == "queued":
            pass
        took = time.monotonic() - begun
        assert took < 21
        assert process.wait(1) == -signal.SIGKILL
        await until(lambda: upstream.connections == 1)
        assert upstream.most == 2
        print(f"\na stream was free {took:.1f} s after its holder was frozen")


async def test_a_process_that_is_killed_gives_its_streams_back_within_20_seconds(tmp_path: Path) -> None:
    async with account(1, tmp_path) as (upstream, found), AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        (process, held), (_, other), _ = found
        client = await opened(stack, held)
        await client.recv()
        waiting = await opened(stack, other, queue=True)
        process.kill()
        begun = time.monotonic()
        while json.loads(await waiting.recv())["type"] == "queued":
            pass
        assert time.monotonic() - begun < 20
        assert upstream.most <= 1


@dataclass
class Waiting:
    """The messages of one waiting client: each place and wait with its time, and when its turn came."""

    places: list[tuple[float, int, float]] = field(default_factory=list)
    served: float = 0.0


async def wait_in_line(url: str, waiting: Waiting, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        client = await opened(stack, url, queue=True)
        while (message := json.loads(await client.recv()))["type"] == "queued":
            waiting.places.append((time.monotonic(), message["place"], message["wait_seconds"]))
        waiting.served = time.monotonic()
        await client.send(SPOKEN)
        await asyncio.sleep(seconds)
        await client.send(EOS)
        await client.wait_closed()
        assert client.close_code == 1000


async def test_60_clients_are_served_in_order_and_told_the_truth(tmp_path: Path) -> None:
    seconds = 3.0
    async with account(10, tmp_path) as (upstream, found), asyncio.timeout(PATIENCE):
        clients = [Waiting() for _ in range(60)]
        urls = cycle(url for _, url in found)
        async with asyncio.TaskGroup() as group:
            for waiting, url in zip(clients, urls, strict=False):
                group.create_task(wait_in_line(url, waiting, seconds))
                await asyncio.sleep(0.1)
    assert upstream.most == 10
    order = sorted(range(60), key=lambda one: clients[one].served)
    assert max(abs(rank - one) for rank, one in enumerate(order)) <= 1  # within a place
    assert not any(waiting.places for waiting in clients[:10])
    first_end = clients[0].served + seconds
    checked = 0
    for waiting in clients[10:]:
        places = [place for _, place, _ in waiting.places]
        assert places == sorted(places, reverse=True)
        for at, place, wait in waiting.places:
            most, least = (
                sum(at + offset < other.served < waiting.served for other in clients)
                for offset in (-UNDER_WAY, UNDER_WAY)
            )
            assert least <= place - 1 <= most
            if at > first_end + 0.5:  # before that, the service cannot know how long a stream lasts
                actual = waiting.served - at
                assert wait / 2 - 1 <= actual <= 2 * wait + 1, (place, wait, actual)  # waits are in whole seconds
                checked += 1
    assert checked > 50
    print(f"\n{checked} waits were estimated within a factor of two, {len(order)} clients served in order")
