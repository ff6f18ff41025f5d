"""The relay, between a websockets client and a websockets server."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from speechbridge.protocol.close import Close
from tests.helpers.secrets import secret
from tests.helpers.service import PATIENCE, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

SENDABLE = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]


class Far:
    """The far side: does what the test says with each connection, and remembers how each ended."""

    def __init__(self, behave: Callable[[ServerConnection], Awaitable[None]]) -> None:
        self._behave = behave
        self.connections: list[ServerConnection] = []
        self.over = asyncio.Event()

    async def __call__(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            await self._behave(connection)
        finally:
            await connection.wait_closed()
            self.over.set()


@asynccontextmanager
async def far_side(far: Far, **options: object) -> AsyncIterator[str]:
    async with serve(far, "127.0.0.1", 0, compression=None, **options) as server:  # type: ignore[arg-type]
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/far"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def wait(connection: ServerConnection) -> None:
    with anyio.fail_after(PATIENCE):
        async for _ in connection:
            pass


async def test_every_kind_of_message_passes_whole_and_in_order() -> None:
    messages: list[str | bytes] = ["text", b"binary", "", b"", "ünïcode \N{GRINNING FACE}", bytes(2**20), "x" * 2**20]
    async with (
        far_side(Far(echo), max_size=None) as url,
        service(relay_url=url, max_message_bytes=2**21) as server,
        client(server, "/relay", max_size=None) as near,
    ):
        for message in messages:
            await near.send(message)
        await near.send([b"in ", b"", b"fragments"])
        assert [await near.recv() for _ in range(len(messages) + 1)] == [*messages, b"in fragments"]


@pytest.mark.parametrize("code", SENDABLE)
async def test_the_near_sides_close_reaches_the_far_side(code: int) -> None:
    far = Far(wait)
    async with far_side(far) as url, service(relay_url=url) as server:
        async with client(server, "/relay") as near:
            await near.close(code, "my reason")
        with anyio.fail_after(PATIENCE):
            await far.over.wait()
    [connection] = far.connections
    assert (connection.close_code, connection.close_reason) == (code, "my reason")


@pytest.mark.parametrize("code", SENDABLE)
async def test_the_targets_close_reaches_the_client_after_its_last_messages(code: int) -> None:
    async def last_words(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(code, "its reason")

    async with far_side(Far(last_words)) as url, service(relay_url=url) as server, client(server, "/relay") as near:
        assert await ending(near) == (["last words"], Close(code, "its reason"))


async def test_a_near_side_that_vanishes_is_1001_to_the_far_side() -> None:
    far = Far(wait)
    async with far_side(far) as url, service(relay_url=url) as server:
        async with client(server, "/relay") as near:
            near.transport.abort()
        with anyio.fail_after(PATIENCE):
            await far.over.wait()
    assert far.connections[0].close_code == 1001


@pytest.mark.slow
async def test_a_near_side_that_leaves_while_the_far_side_talks_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await connection.send("x" * 1000)

    far = Far(talk)
    async with far_side(far, max_queue=1) as url, service(relay_url=url) as server:
        async with client(server, "/relay") as near:
            sending = asyncio.create_task(near.send(bytes(2**23)))  # more than the way holds: nobody reads at its end
            await near.recv()
            near.transport.abort()
            await asyncio.gather(sending, return_exceptions=True)
        with anyio.fail_after(PATIENCE):
            await far.over.wait()
    assert "Exception" not in caplog.text


async def test_a_far_side_that_vanishes_is_1014_to_the_near_side() -> None:
    async def vanish(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with far_side(Far(vanish)) as url, service(relay_url=url) as server, client(server, "/relay") as near:
        assert await ending(near) == ([], Close(1014, "the other side vanished"))


async def test_an_unreachable_target_is_1014_with_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/?token={secret()}"
    async with service(relay_url=url) as server, client(server, "/relay") as near:
        messages, close = await ending(near)
    assert (messages, close.code) == ([], 1014)
    assert "cannot be reached" in close.reason
    assert secret() not in close.reason


async def test_a_far_side_that_never_answers_is_1014_within_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        async with service(relay_url=url, connect_seconds=0.2) as server, client(server, "/relay") as near:
            _, close = await ending(near)
    assert close.code == 1014
    assert "did not answer within 0.2 s" in close.reason


async def test_a_relay_that_is_not_set_says_so() -> None:
    async with service() as server, client(server, "/relay") as near:
        _, close = await ending(near)
    assert close == Close(1014, "no relay: SPEECHBRIDGE_RELAY_URL is not set")


async def test_the_far_side_chooses_the_subprotocol() -> None:
    chosen = Subprotocol("captions")
    async with (
        far_side(Far(echo), subprotocols=[chosen]) as url,
        service(relay_url=url) as server,
        client(server, "/relay", subprotocols=[Subprotocol("other"), chosen]) as near,
    ):
        assert near.subprotocol == chosen


@pytest.mark.slow
async def test_a_slow_side_slows_the_other_down() -> None:
    """What one side sends while the other does not read is held back at its source, not gathered here."""
    reading = asyncio.Event()

    async def slow(connection: ServerConnection) -> None:
        await reading.wait()
        await echo(connection)

    far, sent = Far(slow), 0
    async with far_side(far, max_queue=1) as url, service(relay_url=url) as server, client(server, "/relay") as near:
        chunk, total = bytes(2**19), 128

        async def flood() -> None:
            nonlocal sent
            for _ in range(total):
                await near.send(chunk)
                sent += 1

        flooding = asyncio.create_task(flood())
        # The far side reads nothing, so the flood comes to a halt; that it has is seen when nothing moves any more.
        before = -1
        while sent > before:
            before = sent
            await asyncio.wait({flooding}, timeout=0.3)
        assert sent < total
        reading.set()
        received = 0
        with anyio.fail_after(4 * PATIENCE):
            while received < total:
                received += len(await near.recv()) // len(chunk)
            await flooding


@pytest.mark.slow
async def test_two_hundred_relays_at_once_and_all_is_freed_when_either_side_is_killed() -> None:
    far = Far(echo)
    async with far_side(far) as url, service(relay_url=url) as server:
        idle = len(asyncio.all_tasks())
        nears = await asyncio.gather(*(connect(server.url + "/relay", compression=None) for _ in range(200)))
        for number, near in enumerate(nears):
            await near.send(str(number))
        with anyio.fail_after(4 * PATIENCE):
            assert [await near.recv() for near in nears] == [str(number) for number in range(200)]
            for near in nears[:100]:
                near.transport.abort()
            for connection in far.connections:
                connection.transport.abort()
            for near in nears:
                with pytest.raises(ConnectionClosed):
                    await near.recv()
                await near.wait_closed()
            while len(asyncio.all_tasks()) > idle:  # the last of them need a few more turns of the loop
                await anyio.lowlevel.checkpoint()
