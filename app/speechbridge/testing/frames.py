"""The part of WebSockets (RFC 6455) that the two ends of a benchmark need, at a tenth of the CPU of a full library.

The load generator and the upstream share the cores with the measured service: CPU that they use, it does not get.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

KEY = base64.b64encode(bytes(16)).decode()
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def request(host: str, path: str) -> bytes:
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode()


def accept(key: str) -> bytes:
    digest = base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()  # noqa: S324 # the protocol's own
    lines = (
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {digest}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def encode(opcode: int, payload: bytes, *, masked: bool = False) -> bytes:
    """Make a frame. Its mask is zeros, which is valid, and needs no masking of the payload."""
    size, bit = len(payload), 0x80 * masked
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    elif size < 2**16:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, size)
    return head + bytes(4 * masked) + payload


class Frames:
    """Parses a stream of bytes. Payloads are not unmasked: the upstream only needs the sizes of a client's messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of each complete frame."""
        data = self._rest + data if self._rest else data
        begin, end = 0, len(data)
        while end - begin >= 2:
            size, masked, body = data[begin + 1] & 0x7F, data[begin + 1] >> 7, begin + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size = int.from_bytes(data[body : body + width])
                body += width
            body += 4 * masked
            if body + size > end:
                break
            yield data[begin] & 0x0F, data[body : body + size]
            begin = body + size
        self._rest = data[begin:]
