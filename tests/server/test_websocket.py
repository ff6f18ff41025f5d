"""The server's end of a WebSocket, against clients that break the rules, and the parent's code that it corrects."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections import Counter
from contextlib import AsyncExitStack, suppress
from socket import create_server
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import speechbridge.server.run
import speechbridge.server.websocket
from speechbridge.server.admission import make_key
from speechbridge.server.websocket import WebSocketProtocol
from syncbridge import Limits
from tests.helpers.puppet import until
from tests.helpers.raw_websocket import PATIENCE, close_code, frame, handshake, raw
from tests.helpers.service import client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.server.run import Server


async def test_a_flood_of_empty_fragments_is_1009(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit in bytes sees them, and each costs memory."""
    monkeypatch.setattr(speechbridge.server.websocket, "FRAGMENTS", 100)
    async with service() as server, raw(server.url) as (reader, writer):
        writer.write(frame(2, fin=False) + frame(0, b"x", fin=False) * 200)
        assert await close_code(reader) == 1009


@pytest.mark.parametrize(
    "flood",
    [frame(9, b"!"), frame(10, b"!"), frame(2), frame(1), frame(2, b"x", fin=False) + frame(0, fin=False) * 1000],
    ids=["pings", "pongs", "empty messages", "empty texts", "empty fragments"],
)
async def test_a_flood_of_frames_that_carry_nothing_is_1008_also_with_the_default_limits(flood: bytes) -> None:
    """No limit in bytes sees them, most are never seen by the application, and each costs as much as audio."""
    async with service() as server, raw(server.url, "/ws") as (reader, writer):
        writer.write(flood * (1000 if len(flood) < 100 else 1))
        assert await close_code(reader) == 1008


async def test_some_pings_a_second_are_answered() -> None:
    async with service() as server, client(server) as web:
        for _ in range(50):
            await (await web.ping())
        await web.send("EOS")
        assert (await ending(web))[1].code == 1000


async def test_a_client_that_does_not_read_gets_no_answers_to_its_pings() -> None:
    """Nothing bounded them, and as long as it read a byte now and then, no timeout ended the connection either."""
    async with service() as server, raw(server.url) as (reader, writer):
        [protocol] = server.connections
        protocol.pause_writing()  # as the transport does when its buffer is full
        writer.write(frame(9, b"lost") * 10)
        await until(lambda: protocol.meter._idle == 10)
        protocol.resume_writing()
        writer.write(frame(9, b"kept"))
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(6) == b"\x8a\x04kept"


async def test_websockets_that_flood_at_one_moment_are_parsed_one_in_each_turn_of_the_loop() -> None:
    async with service() as server, AsyncExitStack() as stack:
        turn, at = 0, []
        for _ in range(10):
            _, writer = await stack.enter_async_context(raw(server.url, "/ws"))
            writer.write(frame(10, b"x") * 17)  # one slice, and one frame that waits for its turn
        await until(lambda: len(server.connections) == 10)
        await until(lambda: all(found.meter._idle == 17 for found in server.connections))
        for protocol in server.connections:
            protocol.handle_pong = lambda _pong: at.append(turn)
            protocol.loop.call_soon(protocol.data_received, frame(10, b"x") * 17)
        async with asyncio.timeout(PATIENCE):
            while len(at) < 170:
                turn += 1
                await asyncio.sleep(0)
        assert max(Counter(at[160:]).values()) == 1  # the last of each


async def test_after_our_close_nothing_is_parsed_and_the_clients_close_frame_is_still_seen() -> None:
    """One refused client that went on sending tiny frames stalled the whole service for 13 s."""
    parsed: list[int] = []
    async with service(api_keys=make_key("alice")[1]) as server, raw(server.url) as (reader, writer):
        assert await close_code(reader) == 4001
        [protocol] = server.connections
        protocol.conn.receive_data = lambda data: parsed.append(len(data))
        writer.write(frame(2, b"x") * 2000 + frame(8, b"\x03\xe8"))
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""  # closed at once, and not after the time that is given to a client
    assert parsed == []


async def test_what_is_in_flight_at_our_close_does_not_keep_its_reason_from_arriving() -> None:
    """A connection that is closed with bytes unread is reset, and the close frame may be lost with it."""
    async with service(max_message_bytes=2**16) as server, raw(server.url) as (reader, writer):
        writer.write(frame(3) + frame(2, b"x") * 20_000)
        await writer.drain()
        assert await close_code(reader) == 1002
        writer.write(frame(8, b"\x03\xe8"))


@pytest.mark.parametrize("bound", ["bytes", "seconds"])
async def test_a_client_that_goes_on_after_our_close_is_dropped(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bound == "bytes":
        monkeypatch.setattr(speechbridge.server.websocket, "DISCARDED_BYTES", 10_000)
    else:
        monkeypatch.setattr(speechbridge.server.websocket, "CLOSE_SECONDS", 0.05)
    async with service(api_keys=make_key("alice")[1]) as server, raw(server.url) as (reader, writer):
        assert await close_code(reader) == 4001
        if bound == "bytes":
            writer.write(bytes(20_000))
        with suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
        await until(lambda: not server.connections)


async def test_many_frames_in_one_read_are_parsed_in_slices_and_others_are_served_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, sizes = asyncio.get_running_loop(), []
    async with service() as server:
        wire, protocol = Wire(), protocol_of(server)
        protocol.connection_made(wire)
        protocol.data_received(handshake("/ws"))
        await until(lambda: protocol.queue.is_awaited)
        real, turns = protocol.conn.receive_data, [0]

        def receive(data: bytes) -> None:
            sizes.append((turns[0], len(data)))
            real(data)

        def turn() -> None:
            turns[0] += 1
            if sum(size for _, size in sizes) < 40 * 7:
                loop.call_soon(turn)

        monkeypatch.setattr(protocol.conn, "receive_data", receive)
        turn()
        protocol.data_received(frame(10, b"x") * 40)
        await until(lambda: len(sizes) == 3)
        assert [size for _, size in sizes] == [16 * 7, 16 * 7, 8 * 7]
        assert len({at for at, _ in sizes}) == 3  # each in a turn of its own
        assert wire.noted == ["pause", "resume"]
        protocol.connection_lost(None)


async def test_a_client_that_breaks_the_protocol_before_it_is_accepted_is_dropped_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with create_server(("127.0.0.1", 0)) as mute:
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}"
        async with service(relay_url=url, connect_seconds=0.2) as server:
            where = urlsplit(server.url)
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(handshake("/relay"))
            await until(lambda: any(isinstance(found, WebSocketProtocol) for found in server.connections))
            writer.write(frame(3))
            with suppress(ConnectionResetError):
                async with asyncio.timeout(PATIENCE):
                    assert await reader.read() == b""
            writer.close()
            await until(lambda: not server.connections)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.parametrize("query", ["x" * 9000, "x" * 70_000])
async def test_a_request_that_is_too_long_is_answered_and_closed(query: str) -> None:
    async with service() as server:
        where = urlsplit(server.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(f"GET /ws_a?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode())
        writer.write(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert b"HTTP/1.1 4" in await reader.read()
        writer.close()


async def test_a_message_in_many_fragments_is_fine() -> None:
    def count(audio: Iterator[bytes]) -> Iterator[str]:
        yield str(sum(map(len, audio)))

    async with service(count) as server, client(server) as web:
        await web.send([b"x"] * 2000)
        await web.send("EOS")
        assert (await ending(web))[0] == ["2000"]


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        (frame(3), 1002),  # a reserved opcode
        (bytes([0xC2, 0x80]) + bytes(4), 1002),  # a reserved bit
        (bytes([0x82, 0x00]), 1002),  # not masked
        (frame(1, b"\xff"), 1007),  # not UTF-8
        (frame(0), 1002),  # a continuation of nothing
        (frame(8, b"\x03"), 1002),  # half a close code
        (bytes([0x82, 0xFF]) + struct.pack("!Q", 2**62) + bytes(4), 1009),
    ],
)
async def test_a_plain_request_is_answered_with_the_reason(bytes_: bytes, code: int) -> None:
    async with service() as server, raw(server.url) as (reader, writer):
        writer.write(bytes_)
        assert await close_code(reader) == code


def protocol_of(server: Server) -> WebSocketProtocol:
    """Make a protocol as uvicorn does for a new connection."""
    uvicorn = server._uvicorn
    made = uvicorn.config.ws_protocol_class(config=uvicorn.config, server_state=uvicorn.server_state, app_state={})  # type: ignore[misc,call-arg] # ours takes them
    assert isinstance(made, WebSocketProtocol)
    return made


class Wire(asyncio.Transport):
    """A transport that leads nowhere, and notes when reading stops and goes on."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.noted: list[str] = []

    def pause_reading(self) -> None:
        self.noted.append("pause")

    def resume_reading(self) -> None:
        self.noted.append("resume")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


async def test_reading_stops_for_a_message_that_is_not_waited_for_and_for_no_other() -> None:
    go_on = threading.Event()

    def slow(audio: Iterator[bytes]) -> Iterator[str]:
        go_on.wait(PATIENCE)
        yield from (str(len(chunk)) for chunk in audio)

    async with service(slow) as server:
        wire, protocol = Wire(), protocol_of(server)
        protocol.connection_made(wire)
        protocol.data_received(handshake("/ws_a"))
        await until(lambda: server.sessions.alive)
        [session] = server.sessions._alive
        for _ in range(Limits().inbound):
            await until(lambda: protocol.queue.is_awaited)
            protocol.data_received(frame(2, b"audio"))
        await until(lambda: protocol.queue.is_awaited)
        protocol.data_received(frame(2, b"one for which there is no room"))
        await until(lambda: session._bridge and session._bridge._inbound.loop_waiting)
        assert wire.noted == []
        protocol.data_received(frame(2, b"one that nobody waits for"))
        assert wire.noted == ["pause"]
        go_on.set()
        await until(lambda: wire.noted == ["pause", "resume"])
        protocol.connection_lost(None)
        await until(lambda: not server.sessions.alive)


async def test_a_client_whose_pongs_we_do_not_read_is_not_closed_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is sent faster than it is recognised: reading pauses, and with it the pongs."""
    monkeypatch.setattr(speechbridge.server.run, "PING_SECONDS", 0.05)
    go_on = threading.Event()

    def slow(audio: Iterator[bytes]) -> Iterator[str]:
        go_on.wait(PATIENCE)
        yield str(sum(map(len, audio)))

    async with service(slow) as server, client(server) as web:

        async def send() -> None:
            for _ in range(200):
                await web.send(bytes(65536))
            await web.send("EOS")

        sending = asyncio.create_task(send())
        await asyncio.wait({sending}, timeout=0.5)  # ten times what a pong may take
        assert not sending.done()
        go_on.set()
        messages, close = await ending(web)
        await sending
    assert close.code == 1000
    assert messages == [str(200 * 65536)]
