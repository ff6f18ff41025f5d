"""Many sessions at once, and many one after the other, through Rev.ai's SDK to a scripted upstream."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from speechbridge.recognizer.server import serving
from speechbridge.testing.script import Scripted
from tests.helpers.descriptors import open_files
from tests.helpers.service import STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.server.run import Server

pytestmark = pytest.mark.slow

PATIENCE = 60.0  # seconds, for a crowd on a busy machine


@asynccontextmanager
async def service_before(scripted: Scripted) -> AsyncIterator[Server]:
    async with (
        serving(scripted, handshake_timeout=PATIENCE) as upstream,
        service(None, revai_url=upstream.url, max_sessions=200, connect_seconds=PATIENCE) as server,
    ):
        yield server


async def test_a_hundred_sessions_at_once_are_answered_and_none_loses_a_byte() -> None:
    scripted, sent = Scripted(), {}

    async def talk(server: Server, number: int) -> None:
        name, chance, digest = f"session-{number}", random.Random(number), hashlib.sha256()
        async with client(server, f"{STREAM}&metadata={name}") as socket:
            await socket.recv()  # connected
            for _ in range(10):
                chunk = chance.randbytes(chance.randrange(1, 6400))
                digest.update(chunk)
                await socket.send(chunk)
                assert "chunk" in str(await socket.recv())
            await socket.send("EOS")
            messages, close = await ending(socket)
        assert close.code == 1000
        assert len(messages) == 1
        sent[name] = digest.hexdigest()

    async with service_before(scripted) as server:
        with anyio.fail_after(PATIENCE):
            await asyncio.gather(*(talk(server, number) for number in range(100)))
    assert {client.parameters["metadata"]: client.sha256 for client in scripted.clients} == sent
    assert len(sent) == 100


async def test_a_thousand_sessions_leave_threads_descriptors_and_tasks_where_they_were() -> None:
    async def live(server: Server, *, abruptly: bool) -> None:
        async with client(server, STREAM) as socket:
            await socket.recv()
            await socket.send(bytes(320))
            if abruptly:
                socket.transport.abort()
                return
            await socket.send("EOS")
            _, close = await ending(socket)
            assert close.code == 1000

    async with service_before(Scripted()) as server:
        await live(server, abruptly=False)  # whatever is made once is made now
        threads, files, tasks = threading.active_count(), open_files(), len(asyncio.all_tasks())
        for batch in range(20):
            with anyio.fail_after(PATIENCE):
                await asyncio.gather(*(live(server, abruptly=(batch + n) % 10 == 0) for n in range(50)))
        with anyio.fail_after(PATIENCE):
            # Those who left abruptly still have their audio sent upstream, and its answers awaited.
            while (
                threading.active_count() > threads or len(asyncio.all_tasks()) > tasks or len(open_files()) > len(files)
            ):
                await anyio.lowlevel.checkpoint()
