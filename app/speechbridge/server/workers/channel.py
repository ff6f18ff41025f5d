"""Messages between a worker and its parent, over a Unix socket. A message may carry a client's connection.

A message is four bytes with its length, one byte that says whether it carries a connection, and a JSON object. File
descriptors and bytes arrive in the order in which they were sent.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = struct.Struct("!I?")
READ = 2**16  # bytes at once
MOST_AT_ONCE = 32  # connections in one read. The kernel never returns those of two messages together
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux

Message = dict[str, Any]


class Channel:
    """One end of a Unix socket. For the event loop only; no method waits.

    `received` is called with each message, and with the connection that it carries, or None. `closed` is called once if
    the other side closes or dies, but not after `close`.
    """

    def __init__(
        self,
        end: socket.socket,
        received: Callable[[Message, socket.socket | None], object],
        closed: Callable[[], object],
    ) -> None:
        self._end = end
        self._received = received
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self._connections: deque[socket.socket] = deque()  # received connections whose messages are not complete yet
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()
        self.is_open = True
        end.setblocking(False)
        self._loop.add_reader(end, self._readable)

    def send(self, message: Message, connection: socket.socket | None = None) -> None:
        """Send a message, and take ownership of the connection. The message is dropped if either side has closed."""
        text = json.dumps(message, separators=(",", ":")).encode()
        if not self.is_open:
            if connection is not None:
                connection.close()
            return
        self._unsent.append((HEAD.pack(len(text), connection is not None) + text, connection))
        if len(self._unsent) == 1:
            self._send()

    def close(self) -> None:
        """Close our end. Idempotent."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()
        for connection in (*self._connections, *(held for _, held in self._unsent if held is not None)):
            connection.close()
        self._connections.clear()
        self._unsent.clear()

    def _send(self) -> None:
        while self._unsent:
            data, connection = self._unsent[0]
            try:
                if connection is None:
                    sent = self._end.send(data)
                else:  # the descriptor is sent with the first byte
                    sent = socket.send_fds(self._end, [data], [connection.fileno()])
                    connection.close()
            except BlockingIOError:
                break
            except OSError:  # the other side is gone, which `_readable` will report
                self._loop.remove_writer(self._end)
                return
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = data[sent:], None
        if self._unsent:
            self._loop.add_writer(self._end, self._send)
        else:
            self._loop.remove_writer(self._end)

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._end, READ, MOST_AT_ONCE, CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset: the other side died before it read all our messages
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._connections.append(socket.socket(fileno=descriptor))
        if not data:
            self.close()
            self._closed()
            return
        self._read += data
        while self.is_open and len(self._read) >= HEAD.size:
            length, brings = HEAD.unpack_from(self._read)
            end = HEAD.size + length
            if len(self._read) < end:
                return
            text = bytes(self._read[HEAD.size : end])
            del self._read[:end]
            connection = self._connections.popleft() if brings and self._connections else None
            self._received(json.loads(text), connection)


def packed(value: object) -> str:
    """Encode a Python value for a message."""
    return base64.b64encode(pickle.dumps(value)).decode()


def unpacked(text: str) -> Any:
    """Decode a value of `packed`. Only our own processes have the other end of a channel, so it can be trusted."""
    return pickle.loads(base64.b64decode(text))  # noqa: S301 # it comes from our own process


def pair() -> tuple[socket.socket, socket.socket]:
    """Make the two ends of a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
