"""The server's manners, against clients that have none. Raw sockets where a library would be too polite."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import struct
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

import speechbridge.server.run
from speechbridge.server.run import Protocol
from syncbridge import Limits
from tests.helpers.command import STUB, serving, url_in
from tests.helpers.descriptors import open_files
from tests.helpers.puppet import until
from tests.helpers.service import client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from speechbridge.server.run import Server

PATIENCE = 20.0


@asynccontextmanager
async def raw(server: Server, path: str = "/ws_a") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Do the handshake by hand, and leave the rest to the test."""
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(handshake(path))
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


def handshake(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Make a client's frame, masked with zeros."""
    assert len(payload) < 126
    return bytes([fin << 7 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


async def close_code(reader: asyncio.StreamReader) -> int:
    """Read up to the close frame."""
    async with asyncio.timeout(PATIENCE):
        while True:
            opcode, size = await reader.readexactly(2)
            payload = await reader.readexactly(size)
            if opcode == 0x88:
                return int(struct.unpack("!H", payload[:2])[0])


async def test_a_flood_of_empty_fragments_is_1009(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit in bytes sees them, and each costs memory."""
    monkeypatch.setattr(speechbridge.server.run, "FRAGMENTS", 100)
    async with service() as server, raw(server) as (reader, writer):
        writer.write(frame(2, fin=False) + frame(0, fin=False) * 200)
        assert await close_code(reader) == 1009


async def test_a_flood_of_pings_is_1008() -> None:
    async with service() as server, raw(server) as (reader, writer):
        writer.write(frame(9, b"!") * 1000)
        assert await close_code(reader) == 1008


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
async def test_what_is_no_websocket_is_told_so(bytes_: bytes, code: int) -> None:
    async with service() as server, raw(server) as (reader, writer):
        writer.write(bytes_)
        assert await close_code(reader) == code


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
        wire, protocol = Wire(), Protocol(server.config, server.server_state, {})
        protocol.connection_made(wire)
        protocol.data_received(handshake("/ws_a"))
        await until(lambda: server._sessions.alive)
        [session] = server._sessions._alive
        for _ in range(Limits().inbound):
            await until(lambda: protocol.queue.is_awaited)
            protocol.data_received(frame(2, b"audio"))
        await until(lambda: protocol.queue.is_awaited)
        protocol.data_received(frame(2, b"one for which there is no room"))
        await until(lambda: session._bridge and session._bridge._inbound.awaited)
        assert wire.noted == []
        protocol.data_received(frame(2, b"one that nobody waits for"))
        assert wire.noted == ["pause"]
        go_on.set()
        await until(lambda: wire.noted == ["pause", "resume"])
        protocol.connection_lost(None)
        await until(lambda: not server._sessions.alive)


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


async def test_a_client_that_stops_reading_is_dropped_with_all_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speechbridge.server.run, "STALL_SECONDS", 1.0)

    def talkative(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        while True:
            yield "x" * 65536

    async with service(talkative, drain_seconds=0) as server:
        async with client(server) as warm:
            await warm.send(b"!")
            await warm.recv()
        sessions, files = server.config.app.state.sessions, open_files()  # type: ignore[union-attr] # ours
        async with raw(server) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it
            writer.write(frame(2, b"!"))
            await until(lambda: sessions.alive)
            async with asyncio.timeout(PATIENCE):
                await sessions._none_alive.wait()
                await asyncio.to_thread(_gone, sessions.pool)
        assert len(open_files()) <= len(files)


def _gone(pool: object) -> None:
    for thread in threading.enumerate():
        if thread.name.endswith("-worker"):
            thread.join(PATIENCE)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_with_streams_under_way_ends_them_with_4010(sig: signal.Signals) -> None:
    async def talk(url: str) -> list[int | None]:
        streams = [await connect(f"{url}/ws_a", compression=None) for _ in range(20)]
        for stream in streams:
            await stream.send(b"audio")
            await stream.recv()
        process.send_signal(sig)
        async with asyncio.timeout(PATIENCE):
            for stream in streams:
                await stream.wait_closed()
        return [stream.close_code for stream in streams]

    with serving(SPEECHBRIDGE_START=STUB) as (process, announced):
        url = url_in(announced)
        assert asyncio.run(talk(url)) == [4010] * 20
        _, logged = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in logged


async def test_a_signal_does_not_wait_for_a_client_that_does_not_read() -> None:
    def talkative(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        while True:
            yield "x" * 65536

    async with asyncio.timeout(PATIENCE):
        async with service(talkative, drain_seconds=0.2) as server, raw(server) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it
            writer.write(frame(2, b"!"))
            sessions = server.config.app.state.sessions  # type: ignore[union-attr] # ours
            await until(lambda: sessions.alive)
