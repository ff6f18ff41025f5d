"""HTTP requests, the handshakes of WebSockets among them: bounded in bytes before anything is known of their client."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import Request  # noqa: TC002 # FastAPI reads the annotations

from speechbridge.server import http, run
from speechbridge.server.http import BODY_SLICE, HEAD_BYTES, SLICE_BYTES, HttpProtocol
from tests.helpers.puppet import until
from tests.helpers.raw_websocket import PATIENCE
from tests.helpers.service import client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from speechbridge.server.run import Server

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@asynccontextmanager
async def connection(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def send_on_and_on(writer: asyncio.StreamWriter, data: bytes, most: int) -> int:
    """Send the same until the service has closed; return how much that was."""
    sent = 0
    with suppress(ConnectionError):
        while sent < most:
            writer.write(data)
            await writer.drain()
            sent += len(data)
    return sent


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (GET, b"X-Filler: " + b"x" * 990 + b"\r\n"),
        (GET + b"X-Filler: ", b"x" * 1000),
        (b"GET /", b"x" * 1000),
        (b"GET /ws_a HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", b"X-Filler: " + b"x" * 990 + b"\r\n"),
    ],
    ids=["headers", "one header", "line", "handshake"],
)
async def test_a_head_that_never_ends_is_refused_with_431_at_64_kib(begin: bytes, more: bytes) -> None:
    """300 MB of memory could be filled by one connection, without any key."""
    async with service() as server, connection(server) as (reader, writer):
        writer.write(begin)
        sending = asyncio.create_task(send_on_and_on(writer, more, 2**26))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.readuntil(b"\r\n")
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert await sending < 2**25  # the rest was never read
        await until(lambda: not server.connections)


async def test_a_trailer_that_never_ends_is_cut_off() -> None:
    """The response is long sent then, and the parser would keep the trailer for ever."""
    async with service() as server, connection(server) as (reader, writer):
        writer.write(b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Filler: ")
        assert b" 405 " in await reader.readuntil(b"\r\n")
        sending = asyncio.create_task(send_on_and_on(writer, b"x" * 1000, 2**26))
        await until(lambda: not server.connections)
        assert await sending < 2**25


async def test_a_head_of_just_under_64_kib_is_fine() -> None:
    headers = b"".join(b"X-Filler-%d: %s\r\n" % (n, b"x" * 980) for n in range(64))
    assert HEAD_BYTES - 2 * SLICE_BYTES < len(GET + headers) < HEAD_BYTES
    async with service() as server, connection(server) as (reader, writer):
        for _ in range(2):  # each request has a head of its own
            writer.write(GET + headers + b"\r\n")
            async with asyncio.timeout(PATIENCE):
                assert b" 200 " in await reader.readuntil(b"\r\n")
                await reader.readuntil(b"alive\n")


async def test_pipelined_requests_are_all_answered_and_few_wait_at_a_time() -> None:
    waiting = 0
    async with service() as server, connection(server) as (reader, writer):
        writer.write((GET + b"\r\n") * 1000 + GET + b"Connection: close\r\n\r\n")
        answers, reading = b"", asyncio.create_task(reader.read())
        while not reading.done():
            waiting = max([waiting, *(len(found.pipeline) for found in server.connections)])
            await asyncio.sleep(0)
        answers = await reading
    assert answers.count(b"HTTP/1.1 200 ") == 1001
    assert 0 < waiting <= SLICE_BYTES // len(GET)


async def test_to_a_client_that_has_left_amid_pipelined_requests_nothing_is_written() -> None:
    """A transport of uvloop raises then, and the log has a traceback."""
    async with service() as server, connection(server) as (_, writer):
        asked, left = asyncio.Event(), asyncio.Event()

        @server.app.get("/late")
        async def late() -> str:
            asked.set()
            await left.wait()
            return "late"

        writer.write(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n" + (GET + b"\r\n") * 3)
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            [protocol] = server.connections
            written: list[bytes] = []
            protocol.transport.write = written.append
            protocol.transport.abort()  # as when writing fails: nothing is read while requests wait
            await until(lambda: not server.connections)
            left.set()
            await until(lambda: not protocol.tasks)
    assert written == []


async def test_what_comes_in_one_read_is_parsed_in_slices_each_in_a_turn_of_its_own() -> None:
    async with service() as server, connection(server) as (_, writer):
        await until(lambda: server.connections)
        [protocol] = server.connections
        assert isinstance(protocol, HttpProtocol)
        turns, at = 0, []
        real = protocol.parser.feed_data

        class Parser:
            def feed_data(self, data: bytes) -> None:
                at.append((turns, len(data)))
                real(data)

            def __getattr__(self, name: str) -> object:
                return getattr(parser, name)

        parser, protocol.parser = protocol.parser, Parser()  # type: ignore[assignment] # as much as is used
        writer.write(GET + b"X-Filler: " + b"x" * 5 * SLICE_BYTES)
        async with asyncio.timeout(PATIENCE):
            while len(at) < 6:
                turns += 1
                await asyncio.sleep(0)
        assert len({turn for turn, _ in at}) == len(at)
        assert max(size for _, size in at) <= SLICE_BYTES


async def test_a_body_may_be_large_for_a_route_that_takes_one() -> None:
    async with service() as server:

        @server.app.post("/size")
        async def size(request: Request) -> int:
            return len(await request.body())

        async with httpx2.AsyncClient() as web:
            url = server.url.replace("ws://", "http://") + "/size"
            assert (await web.post(url, content=bytes(500_000))).json() == 500_000


async def test_a_body_of_known_length_is_parsed_in_large_slices_and_what_follows_it_in_small_ones() -> None:
    """A file of 25 MB would take 25,000 turns; and no requests may hide behind one."""
    async with service() as server, connection(server) as (reader, writer):
        taken = asyncio.Event()

        @server.app.post("/size")
        async def size(request: Request) -> int:
            taken.set()
            return len(await request.body())

        writer.write(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await taken.wait()
            [protocol] = server.connections
            sizes: list[int] = []
            parser, real = protocol.parser, protocol.parser.feed_data

            class Parser:
                def feed_data(self, data: bytes) -> None:
                    sizes.append(len(data))
                    real(data)

                def __getattr__(self, name: str) -> object:
                    return getattr(parser, name)

            protocol.parser = Parser()
            writer.write(bytes(1_000_000) + (GET + b"\r\n") * 300 + GET + b"Connection: close\r\n\r\n")
            answer = await reader.read()
    assert b"1000000" in answer
    assert answer.count(b"alive") == 301
    end = next(number for number in range(len(sizes)) if sum(sizes[: number + 1]) >= 1_000_000)
    assert sum(sizes[: end + 1]) == 1_000_000
    assert SLICE_BYTES < max(sizes[:end]) <= BODY_SLICE
    assert max(sizes[end + 1 :]) <= SLICE_BYTES


async def test_a_websocket_whose_head_came_in_many_slices_works() -> None:
    async with service() as server, client(server, additional_headers={"X-Filler": "x" * 7000}) as web:
        await web.send("EOS")
        assert (await ending(web))[1].code == 1000


HANDSHAKE = (
    b"GET /ws_a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_a_handshake_behind_requests_that_are_not_answered_yet_ends_the_connection_after_their_answers() -> None:
    async with service() as server, connection(server) as (reader, writer):
        asked, goes_on = asyncio.Event(), asyncio.Event()

        @server.app.get("/late")
        async def late() -> str:
            asked.set()
            await goes_on.wait()
            return "late"

        writer.write(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"\r\n" + HANDSHAKE)
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            writer.write(b"more")
            goes_on.set()
            answers = await reader.read()
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1") == 2
    assert answers.index(b"late") < answers.index(b"connection: close") < answers.index(b"alive")


async def test_a_handshake_after_an_answered_request_becomes_a_websocket() -> None:
    async with service() as server, connection(server) as (reader, writer):
        async with asyncio.timeout(PATIENCE):
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"alive\n")
            writer.write(HANDSHAKE)
            assert await reader.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"


@pytest.mark.parametrize(
    "begin", [b"", b"GET /livez HTTP/1.1\r\nX-Filler: ", GET + b"\r\n" + GET], ids=["none", "part", "second"]
)
async def test_a_head_that_does_not_come_whole_in_time_ends_its_connection(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody could hold any number of connections, without a key, and for ever."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.2)
    async with service() as server, connection(server) as (reader, writer):
        writer.write(begin)
        async with asyncio.timeout(PATIENCE):
            assert b"HTTP/1.1 408 " in await reader.read()


def _before(function: Callable[[], None], first: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        function()

    return both


async def test_requests_that_arrive_at_one_moment_are_parsed_one_in_each_turn_of_the_loop() -> None:
    """1,500 of them took 0.9 s in one turn, in which no other client was served."""
    many = 20
    async with service() as server, AsyncExitStack() as stack:
        connected = [await stack.enter_async_context(connection(server)) for _ in range(many)]
        await until(lambda: len(server.connections) == many)
        turn, at = 0, []
        for protocol in server.connections:
            assert isinstance(protocol, HttpProtocol)
            protocol.on_message_begin = _before(protocol.on_message_begin, lambda: at.append(turn))  # type: ignore[method-assign]
            protocol.parser = type(protocol.parser)(protocol)  # it keeps the methods that there are
        for _, writer in connected:
            writer.write(GET + b"Connection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            while len(at) < many:
                turn += 1
                await asyncio.sleep(0)
            for reader, _ in connected:
                assert b"HTTP/1.1 200 " in await reader.read()
        assert len(set(at)) == many


async def test_one_connection_too_many_drops_the_one_that_has_been_silent_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "MOST_UNADMITTED", 1)
    async with service(max_connections=2) as server, AsyncExitStack() as stack, client(server) as speaking:
        connected = [await stack.enter_async_context(connection(server)) for _ in range(3)]
        await until(lambda: len(server.connections) == 4)
        connected[0][1].write(GET + b"\r\n")
        await connected[0][0].readuntil(b"alive\n")
        await stack.enter_async_context(connection(server))
        async with asyncio.timeout(PATIENCE):
            assert await connected[1][0].read() == b""
        connected[0][1].write(GET + b"\r\n")
        await connected[0][0].readuntil(b"alive\n")
        await speaking.send("EOS")  # a client that was admitted is not touched
        assert (await ending(speaking))[1].code == 1000
