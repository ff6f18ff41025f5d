"""An attacker's connection: a plain socket with hand-written bytes, and the service's answer."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.helpers.raw_websocket import handshake

if TYPE_CHECKING:
    from typing import Self

SLICE = 2**16  # bytes written at once
GONE = (ConnectionError, TimeoutError)


class Wire:
    """One connection. `answer` is the service's first answer or close, as the client sees it."""

    def __init__(self, url: str, until: float) -> None:
        self.until = until  # by `time.monotonic`
        self.answer = ""
        self._received = b""
        self._is_websocket = False
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self, path: str) -> Self:
        """Do the handshake."""
        self.socket.sendall(handshake(path))
        while b"\r\n\r\n" not in self._received:
            received = self.socket.recv(4096)
            if not received:
                raise ConnectionResetError
            self._received += received
        self._received = self._received.split(b"\r\n\r\n", 1)[1]
        self._is_websocket = True
        self._read_frames()
        return self

    def flood(self, data: bytes) -> None:
        """Send the same data again and again, as fast as possible, until time is up or the connection ends."""
        block = memoryview(data * max(1, SLICE // len(data)))
        rest = block
        self.socket.setblocking(False)
        while time.monotonic() < self.until:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 0.1)
            if readable and not self.listen():
                return
            if writable:
                try:
                    rest = rest[self.socket.send(rest) :] or block
                except BlockingIOError:
                    continue
                except GONE as gone:
                    self._note(f"{type(gone).__name__} while sending")
                    return

    def hold(self) -> None:
        """Send nothing more, and stay until time is up or the connection ends."""
        while time.monotonic() < self.until and self.listen(0.1):
            pass

    def listen(self, seconds: float = 0.0) -> bool:
        """Read what arrives within so many seconds; return whether the connection is still open."""
        self.socket.settimeout(seconds)
        try:
            received = self.socket.recv(2**16)
        except (BlockingIOError, TimeoutError):
            return True
        except GONE as gone:
            self._note(type(gone).__name__)
            return False
        if not received:
            self._note("closed without an answer")
            return False
        self._received += received
        self._read_frames()
        return True

    def _read_frames(self) -> None:
        if not self._is_websocket:
            self._note(self._received.split(b"\r\n", 1)[0].decode("latin-1"))
            return
        while len(self._received) >= 4:
            opcode, size = self._received[0], self._received[1]
            begin = 2
            if size == 126:
                begin, size = 4, struct.unpack("!H", self._received[2:4])[0]
            if len(self._received) < begin + size:
                return
            payload, self._received = self._received[begin : begin + size], self._received[begin + size :]
            if opcode == 0x88:
                self._note(f"{struct.unpack('!H', payload[:2])[0]} {payload[2:].decode()}")

    def _note(self, answer: str) -> None:
        self.answer = self.answer or answer
