"""Replicas of one service on one Redis, run as processes: one of one process, and one with two workers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from speechbridge.protocol.close import CloseCode
from speechbridge.server.admission import make_key
from tests.helpers.command import HEARS_HELLO, STUB
from tests.helpers.redis import redis_server
from tests.helpers.service import STREAM
from tests.helpers.workers import service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.helpers.redis import RedisServer
    from tests.helpers.workers import Service

pytestmark = pytest.mark.slow

FREE_SECONDS = 20.0  # within which what a dead replica had is free again
TRAFFIC_SECONDS = 7.0  # within which clients that send too much are closed: 6, and a delay
CROWDED, TOO_OFTEN, TOO_MANY = int(CloseCode.CROWDED), int(CloseCode.TOO_OFTEN), int(CloseCode.TOO_MANY)

TOO_MANY_BYTES = int(CloseCode.TOO_MANY_BYTES)


class Clients:
    """Those who stream, with one key."""

    def __init__(self, stack: AsyncExitStack, key: str) -> None:
        self.streams: list[ClientConnection] = []
        self._stack = stack
        self._key = key

    async def comes(self, replica: Service) -> int:
        """Begin a stream; return 0, or the code with which it was refused."""
        url = f"{replica.url}{STREAM}&access_token={self._key}"
        stream = await self._stack.enter_async_context(connect(url, compression=None, close_timeout=1))
        try:
            await stream.recv()
        except ConnectionClosed:
            return stream.close_code or 0
        self.streams.append(stream)
        return 0

    async def leaves(self, which: int) -> None:
        await self.streams.pop(which).close()

    async def send(self, sizes: Sequence[int], seconds: float) -> list[int]:
        """Send so many bytes a second on each stream; return the code with which each was closed, or 0."""
        async with asyncio.TaskGroup() as group:
            for stream, size in zip(self.streams, sizes, strict=True):
                group.create_task(_send(stream, size, seconds))
        return [stream.close_code or 0 for stream in self.streams]


async def _send(stream: ClientConnection, size: int, seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    with suppress(ConnectionClosed):
        while time.monotonic() < ends_at:
            await stream.send(bytes(size // 10))
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):  # after a delay it sends no faster
                    await stream.wait_closed()


@asynccontextmanager
async def two_replicas(
    folder: Path, start: str = STUB, **settings: int
) -> AsyncIterator[tuple[Service, Service, Clients, RedisServer]]:
    key, line = make_key("alice")
    with redis_server(folder) as redis:
        every = {
            "SPEECHBRIDGE_START": start,
            "SPEECHBRIDGE_REDIS_URL": redis.url,
            "SPEECHBRIDGE_API_KEYS": line,
            **{f"SPEECHBRIDGE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with service(1, **every) as one, service(2, **every) as two:
            async with AsyncExitStack() as stack:
                yield one, two, Clients(stack, key), redis


async def test_connections_with_a_key_are_counted_over_replicas_and_their_workers(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, sessions_per_key=4) as (one, two, clients, _):
        assert [await clients.comes(at) for at in (one, two, two, one)] == [0] * 4
        assert [await clients.comes(at) for at in (one, two)] == [CROWDED] * 2
        await clients.leaves(0)
        assert await clients.comes(two) == 0
        assert [await clients.comes(at) for at in (one, two)] == [CROWDED] * 2


async def test_handshakes_with_a_key_are_counted_over_replicas(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, handshakes_per_minute=5) as (one, two, clients, _):
        assert [await clients.comes(at) for at in (one, two, two, one, two)] == [0] * 5
        assert [await clients.comes(at) for at in (one, two)] == [TOO_OFTEN] * 2


async def test_streams_are_a_total_over_replicas_and_those_of_a_dead_worker_are_free(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, max_sessions=3, max_connections=9) as (one, two, clients, _):
        assert [await clients.comes(at) for at in (one, two, two)] == [0] * 3
        assert [await clients.comes(at) for at in (one, two)] == [TOO_MANY] * 2
        os.kill(two.workers()["1"], signal.SIGKILL)
        two.await_line("worker 1 died")
        assert [await clients.comes(at) for at in (one, one)] == [0, TOO_MANY]


async def test_what_a_killed_replica_had_is_free_within_20_seconds(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, sessions_per_key=2, handshakes_per_minute=0) as (one, two, clients, _):
        assert [await clients.comes(at) for at in (one, one, two)] == [0, 0, CROWDED]
        one.process.kill()
        begun = time.monotonic()
        while await clients.comes(two) != 0:
            pass
        assert time.monotonic() - begun < FREE_SECONDS


async def test_a_redis_that_stands_still_for_5_seconds_refuses_nobody(tmp_path: Path) -> None:
    async with two_replicas(tmp_path, sessions_per_key=3, handshakes_per_minute=0) as (one, two, clients, redis):
        assert [await clients.comes(at) for at in (one, two)] == [0, 0]
        redis.freeze()
        begun, waits = time.monotonic(), []
        while time.monotonic() - begun < 5:
            for at in (one, two):
                before = time.monotonic()
                assert await clients.comes(at) == 0
                waits.append(time.monotonic() - before)
                await clients.leaves(-1)
        redis.thaw()
        assert max(waits) < 3
        assert sorted(waits)[-3] < 0.5, "one handshake at each replica waits, no other"
        while await clients.comes(one) == 0:  # until it has told Redis: then there are three
            assert time.monotonic() - begun < FREE_SECONDS
            if len(clients.streams) > 3:
                await clients.leaves(-1)
        while (answer := await clients.comes(two)) == 0:  # likewise
            assert time.monotonic() - begun < FREE_SECONDS
            await clients.leaves(-1)
        assert answer == CROWDED


@pytest.mark.parametrize(("size", "code"), [(80_000, TOO_MANY_BYTES), (40_000, 0)])
async def test_what_is_sent_with_a_key_is_counted_over_replicas_and_their_workers(
    tmp_path: Path, size: int, code: int
) -> None:
    """One client at one replica, and two at the other: each replica receives less than the limit."""
    async with two_replicas(tmp_path, HEARS_HELLO, bytes_per_second=100_000) as (one, two, clients, _):
        assert [await clients.comes(at) for at in (one, two, two)] == [0] * 3
        assert await clients.send([size, size // 2, size // 2], TRAFFIC_SECONDS) == [code] * 3
