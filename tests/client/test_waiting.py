"""Clients that wait in the service's queue, with both kinds of streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from speechbridge import Broken, ContentType, StreamRequest, connect, connect_resumable
from speechbridge.protocol.messages import Queued, parse_message
from speechbridge.server.websocket import WebSocketProtocol
from tests.helpers.service import PATIENCE, STREAM, client, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.server.run import Server

REQUEST = StreamRequest(ContentType.raw())


@pytest.fixture
async def full() -> AsyncIterator[tuple[Server, asyncio.Event]]:
    """Give a service whose only stream is in use until the event is set."""
    over = asyncio.Event()

    async def occupy(server: Server, occupied: asyncio.Event) -> None:
        async with client(server, STREAM) as socket:
            await socket.recv()
            occupied.set()
            await over.wait()

    async with service(account_streams=1) as server:
        occupied = asyncio.Event()
        occupying = asyncio.create_task(occupy(server, occupied))
        await occupied.wait()
        yield server, over
        over.set()
        await occupying


async def test_a_stream_waits_and_says_its_place(full: tuple[Server, asyncio.Event]) -> None:
    server, over = full
    told: list[Queued] = []

    def waiting(queued: Queued) -> None:
        told.append(queued)
        over.set()

    async with asyncio.timeout(PATIENCE), connect(server.url, REQUEST, waiting=waiting) as stream:
        await stream.send(bytes(3200))
        await stream.end()
        assert [message async for message in stream] == []
    assert [queued.place for queued in told] == [1]
    assert told[0].wait_seconds > 0


async def test_a_stream_that_does_not_wait_is_refused(full: tuple[Server, asyncio.Event]) -> None:
    async with connect(full[0].url, REQUEST) as stream:
        with pytest.raises(Broken, match="4029"):
            await anext(stream)
    with pytest.raises(Broken, match="4029"):
        async with connect_resumable(full[0].url, REQUEST):
            pass


@pytest.mark.slow
async def test_a_resumable_stream_that_is_cut_in_the_queue_comes_back_to_its_place(
    full: tuple[Server, asyncio.Event],
) -> None:
    server, over = full
    told: asyncio.Queue[Queued] = asyncio.Queue()

    async def speak() -> None:
        async with connect_resumable(server.url, REQUEST, waiting=told.put_nowait) as stream:
            await stream.send(bytes(3200))
            await stream.end()
            assert [message async for message in stream] == []

    async with asyncio.timeout(2 * PATIENCE):
        speaking = asyncio.create_task(speak())
        first = await told.get()
        async with client(server, f"{STREAM}&queue=true") as behind:
            queued = parse_message(await behind.recv())
            assert isinstance(queued, Queued)
            assert queued.place == 2
            cut(server, b"resume=true&queue=true")
            again = await told.get()
            assert (again.place, again.ticket) == (1, first.ticket)
            over.set()
            await speaking


def cut(server: Server, query: bytes) -> None:
    """Break the connection whose query ends so."""
    (found,) = [
        found
        for found in server.connections
        if isinstance(found, WebSocketProtocol) and found.scope["query_string"].endswith(query)
    ]
    found.transport.abort()
