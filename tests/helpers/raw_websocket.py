"""A WebSocket client that writes its bytes itself, for input that no library would send."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 20.0


@asynccontextmanager
async def raw(url: str, path: str = "/ws_a") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect and do the handshake; the test does the rest. `url` is the service's: ws://host:port."""
    where = urlsplit(url)
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
