"""A process that hangs keeps its streams until the kernel kills it: no stream has two upstreams in the meantime."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from speechbridge.recognizer.server import serving
from speechbridge.server.workers.private_redis import program
from tests.helpers.command import MOVABLE
from tests.helpers.puppet import until
from tests.helpers.redis import redis_server
from tests.helpers.replicas import CountingUpstream, replicas
from tests.helpers.service import STREAM
from tests.helpers.workers import service

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0  # seconds, for processes on a busy machine
SPOKEN = bytes(16000)


async def test_a_stream_has_one_upstream_also_where_the_account_has_no_limit(tmp_path: Path) -> None:
    upstream = CountingUpstream()
    async with serving(upstream, handshake_timeout=None) as running, asyncio.timeout(PATIENCE):
        with redis_server(tmp_path) as redis, replicas(2, redis, running.url) as ((process, held), (_, other)):
            async with connect(f"{held}{STREAM}&resume=true", proxy=None, close_timeout=0.1) as client:
                key = json.loads(await client.recv())["resume"]
                await client.send(SPOKEN)
                assert json.loads(await client.recv())["type"] == "received"
                await until(lambda: upstream.connections == 1)
                begun = time.monotonic()
                process.send_signal(signal.SIGSTOP)
                async with connect(f"{other}{STREAM}&resume={key}&finals=0", proxy=None, close_timeout=0.1) as again:
                    greeting = json.loads(await again.recv())
                    took = time.monotonic() - begun
                    assert (greeting["resume"], greeting["position"]) == (key, len(SPOKEN))
                    assert process.wait(1) == -signal.SIGKILL
                    await again.send(SPOKEN)
                    assert json.loads(await again.recv())["type"] == "received"
                    await until(lambda: upstream.connections == 1)
        assert upstream.most == 1
        assert took < 20
    print(f"\na stream was resumed in the other process {took:.1f} s after its own was stopped")


@pytest.mark.skipif(program() is None, reason="there is no program of Redis or Valkey")
async def test_a_client_whose_worker_stands_still_is_answered_by_another() -> None:
    with service(SPEECHBRIDGE_START=MOVABLE) as running:
        async with (
            connect(f"{running.url}{STREAM}&resume=true", close_timeout=0.1) as client,
            asyncio.timeout(PATIENCE),
        ):
            key = json.loads(await client.recv())["resume"]
            await client.send(SPOKEN)
            assert json.loads(await client.recv())["type"] == "received"
            name = key.partition(".")[0]
            os.kill(running.workers()[name], signal.SIGSTOP)
            begun = time.monotonic()
            await asyncio.to_thread(running.await_line, f"worker {name} does not answer")
            async with connect(f"{running.url}{STREAM}&resume={key}&finals=0", open_timeout=PATIENCE) as again:
                assert json.loads(await again.recv())["resume"] == key
                took = time.monotonic() - begun
        assert took < 20
