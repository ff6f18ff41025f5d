"""The socket under Rev.ai's SDK: websocket-client's, corrected. The only import of websocket-client.

Flaws of websocket-client's `WebSocket`, and the corrections:

- It waits without limit. Here each wait on the connection has a timeout, and so has connecting as a whole
  (`rev_connect`).
- It accepts messages of any size, in any number of fragments. Here both are limited.
- A send that fails raises in the SDK's send thread, where nobody sees the error, and often before the reading thread
  has received the close frame with the reason. Here the failure is recorded, and the reading thread is woken.
- It closes the socket as soon as the peer does, even while another thread sends. By then the descriptor may belong to
  another connection, and that connection gets the audio. Here the socket is only shut down; `release` closes it once no
  thread is inside a send.
- It frames and masks slowly: see `rev_frames`.
- It reads the handshake's response byte by byte, with two system calls for each: see `_Head`.
- A close frame whose reason is not UTF-8 loses its code, too. Here the reason is made valid.
- Its errors show the URL, and in it the access token: `rev_stream` converts all of them.

Private names of websocket-client that this relies on: `WebSocket._recv`, with which its frame buffer reads; the buffer
must keep the bytes that `_recv` returns beyond the requested size; and `recv_line`, as `_Head` says.
tests/engines/test_rev_canary.py lists the methods that call the ones overridden here, and fails when one of them
changes.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websocket import (
    ABNF,
    WebSocket,
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketPayloadException,
    WebSocketTimeoutException,
    frame_buffer,
)

from speechbridge.engines.rev_connect import Connecting, GivenUp
from speechbridge.engines.rev_frames import frame
from speechbridge.protocol.address import is_nearby

__all__ = [
    "RevSocket",
    "Timeouts",
    "WebSocketAddressException",
    "WebSocketBadStatusException",
    "WebSocketException",
    "WebSocketTimeoutException",
]

READ = 2**10  # bytes per read: one or two partials. Each waiting thread allocates a buffer of this size
# Bytes of a message. A final of half a minute, with the times of all words, has about 10 KiB. A stream may hold 256
# messages that its client has not taken, and parsing the JSON of one blocks all other threads: 5 ms at this size.
LARGEST = 2**17
LARGEST_HEAD = 2**16  # bytes of the handshake's response
FRAGMENTS = 2**10  # of a message: for each fragment the parent class copies all that came before


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds. `connect` limits the whole connect, DNS and TLS included; `answer` limits the wait for last words.

    The wait for last words begins with the end of the input, and again with each final after it. `answer` also limits
    how long a send may block.
    """

    connect: float = 5.0
    answer: float = 30.0  # a guess; Rev.ai's finals arrive within seconds of EOS


class RevSocket(WebSocket):  # type: ignore[misc] # websocket-client has no types
    """A WebSocket client with timeouts, which any thread can interrupt. Used for one connection.

    `extra` is appended to the query of the URL.
    """

    def __init__(self, extra: str, timeouts: Timeouts) -> None:
        self._socket: Any = None
        self._head: _Head | None = None  # the same socket, during the handshake
        self._is_connecting = False
        options = []
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: detects a dead peer while sent audio is unacknowledged
            options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeouts.answer * 1000)))
        tls = {"ssl_version": ssl.PROTOCOL_TLS_CLIENT}  # the default of websocket-client is deprecated
        super().__init__(sockopt=options, sslopt=tls, enable_multithread=True, skip_utf8_validation=True)
        self.frame_buffer: Any = _BoundedFrames(self._recv, skip_utf8_validation=True)
        self._ahead = b""  # what was read together with the head
        self._extra = extra
        self._timeouts = timeouts
        self._fragments = self._size = 0  # of the message that is being received
        self._connecting = Connecting()
        self._last_words_due: float | None = None  # by the monotonic clock
        self.is_interrupted = False
        self.failure: Exception | None = None  # of the first send that failed

    @property
    def sock(self) -> Any:
        """The connected socket. The parent class sets it before the handshake, and reads the head from it."""
        return self._head or self._socket

    @sock.setter
    def sock(self, connected: Any) -> None:
        self._socket = connected
        self._head = _Head(connected) if connected is not None and self._is_connecting else None

    def connect(self, url: str, **options: Any) -> None:
        """Connect within `Timeouts.connect` seconds. Raises TimeoutError if it takes longer, or the parent's error."""
        if self.is_interrupted:
            raise WebSocketConnectionClosedException
        url = f"{url}&{self._extra}" if self._extra else url
        if is_nearby(urlsplit(url).hostname or ""):  # such as the embedded recognizer
            # Bypass the environment's proxy. The parent class reads `http_no_proxy` only if there is a proxy host.
            options |= {"http_proxy_host": "unused", "http_no_proxy": ["*"]}
        self._is_connecting = True
        try:
            self._connecting.run(
                lambda: WebSocket.connect(self, url, timeout=self._timeouts.connect, **options), self._timeouts.connect
            )
        except GivenUp:  # by `interrupt`; a later `interrupt` shuts the socket down itself
            raise WebSocketConnectionClosedException from None
        if self._head is not None:
            self._ahead, self._head = self._head.rest, None
        self.settimeout(self._timeouts.answer)

    def send(self, payload: bytes | str, opcode: int = ABNF.OPCODE_TEXT) -> int:
        """Send one message or control frame. Never raises: an error is recorded in `failure`."""
        data = frame(payload.encode() if isinstance(payload, str) else payload, opcode)
        try:
            with self.lock:
                if self._socket is None:
                    raise WebSocketConnectionClosedException
                self._socket.sendall(data)
        except (OSError, WebSocketException) as error:
            self.failure = self.failure or error
            self.interrupt()  # wakes the reading thread, which can still read what has arrived
            return 0
        return len(data)

    def recv_data(self, control_frame: bool = False) -> tuple[int, bytes]:  # noqa: FBT001, FBT002 # the parent's
        """Receive a message or a close frame; return its opcode and its content."""
        opcode, data = super().recv_data(control_frame)
        if opcode == ABNF.OPCODE_CLOSE:
            data = data[:2] + data[2:].decode(errors="replace").encode()
        return opcode, data

    def recv_frame(self) -> ABNF:
        """Receive a frame. Raises WebSocketPayloadException if its message has become too large."""
        received = super().recv_frame()
        if received.opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT):
            self._fragments += 1
            self._size += len(received.data)
            if self._fragments > FRAGMENTS or self._size > LARGEST:
                raise WebSocketPayloadException
            if received.fin:
                self._fragments = self._size = 0
        return received

    def expect_last_words(self) -> None:
        """Limit the wait for the next final to `answer` seconds from now, also for a thread that already waits."""
        self._last_words_due = time.monotonic() + self._timeouts.answer

    def postpone_last_words(self, seconds: float) -> None:
        """Extend that limit by the time for which the client did not take a message."""
        if self._last_words_due is not None:
            self._last_words_due += seconds

    def are_last_words_overdue(self) -> bool:
        """Tell whether the last words are overdue. If not, the next read waits only for the time that is left."""
        if self._last_words_due is None:
            return False
        left = self._last_words_due - time.monotonic()
        if left > 0:
            self.settimeout(left)  # it limits sends as well, but none follow the end of the input
        return left <= 0

    def interrupt(self) -> None:
        """Wake every thread that waits on the connection. What has arrived can still be read. Thread-safe."""
        self.is_interrupted = True
        self._connecting.give_up()
        connected = self._socket
        if connected is not None:
            with suppress(OSError):  # not yet connected, or no longer
                # Not SSLSocket's method: that drops the TLS state first, and then reads and writes plain text.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the descriptor once no thread is inside a send. A thread that still connects closes it itself."""
        self.interrupt()
        if not self._connecting.leave(self.shutdown):
            with self.lock:
                self.shutdown()
            self.frame_buffer = None  # it references this socket; so both are freed without the garbage collector

    def settimeout(self, timeout: float) -> None:
        """Limit each wait on the connection, in seconds.

        With Python's own timeouts each send and each recv needs another system call (poll), which releases the GIL to
        another thread. Linux can limit the send and the recv themselves. Under TLS that does not work: OpenSSL repeats
        a call that timed out, without an error.
        """
        if sys.platform == "linux" and self._socket is not None and not self.is_ssl():
            self._socket.settimeout(None)
            seconds = struct.pack("@ll", *divmod(max(1, round(timeout * 1e6)), 10**6))  # 0 would mean no limit
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        else:
            super().settimeout(timeout)

    def _recv(self, _size: int) -> bytes:
        """Read all that has arrived, whatever the requested size: the frame buffer keeps the rest.

        That saves system calls, as websocket-client reads each frame in three pieces. The inherited method closes the
        socket when the peer does; this one does not: see `release`.
        """
        if self._last_words_due is not None and time.monotonic() >= self._last_words_due:
            raise WebSocketTimeoutException  # pings that arrive keep the socket's own timeout from expiring
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        try:
            received: bytes = self._socket.recv(READ) if self._socket is not None else b""
        except (BlockingIOError, TimeoutError):  # the kernel's timeout, and Python's
            raise WebSocketTimeoutException from None
        if not received:
            raise WebSocketConnectionClosedException
        return received


class _Head:
    """The socket during the handshake. It reads ahead, and what follows the head is in `rest`.

    `recv_line` reads pieces of one byte until it gets a newline. Here a piece is all that has arrived of a line without
    its newline, and then the newline. That saves 0.25 ms of CPU per connection.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._size = 0
        self.rest = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, _size: int) -> bytes:
        """Read a piece of a line; b"" if the peer has closed. Raises WebSocketException if the head is too large."""
        if not self.rest:
            self.rest = self._socket.recv(READ)
            self._size += len(self.rest)
            if self._size > LARGEST_HEAD:
                raise WebSocketException
        line, newline, _ = self.rest.partition(b"\n")
        piece = line or newline
        self.rest = self.rest[len(piece) :]
        return piece


class _BoundedFrames(frame_buffer):  # type: ignore[misc] # websocket-client has no types
    """Refuses a frame that is too large before it reads its payload."""

    def recv_length(self) -> None:
        super().recv_length()
        if self.length > LARGEST:
            raise WebSocketPayloadException
