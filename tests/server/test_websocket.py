"""The server's end of a WebSocket, against clients that break the rules, and the parent's code that it corrects."""

from __future__ import annotations

import asyncio
import inspect
import pkgutil
import struct
import threading
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

import speechbridge.server.run
import speechbridge.server.websocket
from speechbridge.server.websocket import UvicornServer, WebSocketProtocol
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
        writer.write(frame(2, fin=False) + frame(0, fin=False) * 200)
        assert await close_code(reader) == 1009


async def test_a_flood_of_pings_is_1008() -> None:
    async with service() as server, raw(server.url) as (reader, writer):
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
        await until(lambda: session._bridge and session._bridge._inbound.awaited)
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


# ---- the code of others that websocket.py corrects -------------------------------------------------------------------

PARENT = "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol"
KNOWN: dict[str, str] = {
    f"{PARENT}.__init__": "631dcd744eab875f",
    f"{PARENT}.connection_made": "f533ec93747c2cbf",
    f"{PARENT}.connection_lost": "dd116afc4d8034e1",
    f"{PARENT}.data_received": "c89d394077d8841d",
    f"{PARENT}.handle_events": "b2c9351a5d13493f",
    f"{PARENT}.handle_connect": "fc648c2161ff8e13",
    f"{PARENT}.handle_cont": "d96fe1479da61beb",
    f"{PARENT}.handle_text": "6ae523180cf04a01",
    f"{PARENT}.handle_bytes": "2b22b21bf8feb4bf",
    f"{PARENT}.send_receive_event_to_app": "a2b10de91477dc1d",
    f"{PARENT}.handle_ping": "41bcf345d372c55c",
    f"{PARENT}.handle_pong": "b20c68cc7e4f9bca",
    f"{PARENT}.send_keepalive_ping": "02da3945b3e6b110",
    f"{PARENT}.keepalive_timeout": "8e1ceb6ec446de9d",
    f"{PARENT}.handle_close": "62fd412b1f5b9e86",
    f"{PARENT}.handle_parser_exception": "ff5cf13c764fb332",
    f"{PARENT}.run_asgi": "662375aa38d9044c",
    f"{PARENT}.send": "d4919ed760ce9f7b",
    f"{PARENT}.receive": "1dc0e715390021a1",
    f"{PARENT}.shutdown": "e8ace796ada616b7",
    "uvicorn.server:Server.__init__": "c150b55284f7511e",
    "uvicorn.server:Server.serve": "112ef41af52167e3",
    "uvicorn.server:Server._serve": "4575b7a50adfede8",
    "uvicorn.server:Server.startup": "2aa1d70a244bfcf2",
    "uvicorn.server:Server.main_loop": "afccb353a119333f",
    "uvicorn.server:Server.shutdown": "9b33c50562992b1e",
    "uvicorn.server:Server.capture_signals": "e1bbcd4770d1c887",
    "uvicorn.server:Server.handle_exit": "553276efa26e09ea",
    "websockets.protocol:Protocol.fail": "924ae7075dc75a9d",
    "websockets.protocol:Protocol.receive_data": "df57bef09335e176",
    "websockets.protocol:Protocol.data_to_send": "959589a5e74ef26f",
    "websockets.protocol:Protocol.parse": "45aaf900644b63c4",
    "websockets.protocol:Protocol.discard": "c40ae1ef57fd326c",
    "websockets.protocol:Protocol.recv_frame": "4f83d3b90ea62428",
    "websockets.server:ServerProtocol.parse": "8c4d10340de4d32f",
    "websockets.server:ServerProtocol.send_response": "0676fec30e39473d",
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_code_that_is_corrected_is_the_code_that_was_read(name: str) -> None:
    """A canary. Bring the hash up to date only after reading."""
    source = inspect.getsource(pkgutil.resolve_name(name))
    assert sha256(source.encode()).hexdigest()[:16] == KNOWN[name], (
        f"{name} has changed with a release: read it again beside what speechbridge/server/websocket.py says of it"
    )


def test_every_name_that_is_overridden_is_watched() -> None:
    for ours, theirs in ((WebSocketProtocol, WebSocketsSansIOProtocol), (UvicornServer, uvicorn.Server)):
        for name in vars(ours).keys() & vars(theirs).keys() - {"__module__", "__doc__", "__dict__", "__weakref__"}:
            if callable(getattr(theirs, name)):
                assert any(known.endswith(f":{theirs.__name__}.{name}") for known in KNOWN), name
