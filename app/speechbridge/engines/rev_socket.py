"""The socket under Rev.ai's SDK: websocket-client's, corrected. The only import of websocket-client.

What is corrected, and why:

- It waits for ever: here each wait on the connection has a timeout, and so has connecting as a whole (`rev_connect`).
- It takes messages of any size, in any number of fragments: here both are bounded.
- A send that fails raises in the SDK's send thread, where nobody sees it, and often before the reader has got the close
  frame that says why: here the failure is noted, and the reader is woken.
- The parent closes the socket by itself when the peer does, possibly under a thread that sends. Its descriptor may
  belong to another connection by then, and the audio goes to a stranger. Here the socket is only shut down; `release`
  closes it once no thread is inside a send.
- It frames and masks slowly: see `rev_frames`. The reason of a close frame is made decodable, so that its code is never
  lost.
- Errors show the URL, and in it the access token: `rev_stream` lets none of them out.

Private names of websocket-client that this relies on: `WebSocket._recv`, through which its frame buffer reads, and
that the buffer keeps what it is given beyond what it asked for. Its methods that call the ones overridden here are
listed in tests/engines/test_rev_canary.py, which fails when one of them changes.
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

READ = 2**10  # bytes at once: one or two partials. Each waiting thread holds so much memory
# Bytes of a message. A final of half a minute, with the times of all words, has some 10 KiB. A stream may hold 256
# messages that its client has not taken, and reading one as JSON holds up all other threads: 5 ms at this size.
LARGEST = 2**17
FRAGMENTS = 2**10  # of a message: the parent copies what it has for each


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds. `connect` bounds all of connecting, DNS and TLS included; `answer` the wait for the last words.

    The last words are bounded from the end of the input on, and from each final after that. `answer` also bounds how
    long a send may wait for room.
    """

    connect: float = 5.0
    answer: float = 30.0  # a guess; Rev.ai's finals come within seconds of EOS


class RevSocket(WebSocket):  # type: ignore[misc] # websocket-client has no types
    """A WebSocket client with timeouts, which can be interrupted from any thread. Used for one connection.

    `extra` is appended to the query of the URL.
    """

    def __init__(self, extra: str, timeouts: Timeouts) -> None:
        options = []
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a peer that vanished with our audio unacknowledged
            options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeouts.answer * 1000)))
        tls = {"ssl_version": ssl.PROTOCOL_TLS_CLIENT}  # its default is deprecated
        super().__init__(sockopt=options, sslopt=tls, enable_multithread=True, skip_utf8_validation=True)
        self.frame_buffer = _BoundedFrames(self._recv, skip_utf8_validation=True)
        self._extra = extra
        self._timeouts = timeouts
        self._fragments = self._size = 0  # of the message that is being received
        self._connecting = Connecting(self.shutdown)
        self._last_words_due: float | None = None  # by the monotonic clock
        self.is_interrupted = False
        self.failure: Exception | None = None  # of the first send that failed

    def connect(self, url: str, **options: Any) -> None:
        """Connect within `Timeouts.connect` seconds. Raises TimeoutError if it takes longer, or what went wrong."""
        if self.is_interrupted:
            raise WebSocketConnectionClosedException
        url = f"{url}&{self._extra}" if self._extra else url
        if is_nearby(urlsplit(url).hostname or ""):  # the embedded recognizer above all
            # Whatever the environment says. The parent reads the second only if there is a first.
            options |= {"http_proxy_host": "unused", "http_no_proxy": ["*"]}
        try:
            self._connecting.run(
                lambda: WebSocket.connect(self, url, timeout=self._timeouts.connect, **options), self._timeouts.connect
            )
        except GivenUp:  # an interrupt that comes from now on finds the socket
            raise WebSocketConnectionClosedException from None
        self.settimeout(self._timeouts.answer)

    def send(self, payload: bytes | str, opcode: int = ABNF.OPCODE_TEXT) -> int:
        """Send one message, or control frame. Never raises: see `failure`."""
        data = frame(payload.encode() if isinstance(payload, str) else payload, opcode)
        try:
            with self.lock:
                if self.sock is None:
                    raise WebSocketConnectionClosedException
                self.sock.sendall(data)
        except (OSError, WebSocketException) as error:
            self.failure = self.failure or error
            self.interrupt()  # the reader is told; what has arrived already it still reads
            return 0
        return len(data)

    def recv_data(self, control_frame: bool = False) -> tuple[int, bytes]:  # noqa: FBT001, FBT002 # the parent's
        """Receive a message or a close frame: its opcode and its content."""
        opcode, data = super().recv_data(control_frame)
        if opcode == ABNF.OPCODE_CLOSE:
            data = data[:2] + data[2:].decode(errors="replace").encode()
        return opcode, data

    def recv_frame(self) -> ABNF:
        """Receive a frame. Raises WebSocketPayloadException if its message grows too large."""
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
        """Bound the wait for the next final by `answer` seconds from now, also for a thread that already waits."""
        self._last_words_due = time.monotonic() + self._timeouts.answer

    def postpone_last_words(self, seconds: float) -> None:
        """Extend the time for the next message: for so long nobody could take one."""
        if self._last_words_due is not None:
            self._last_words_due += seconds

    def is_too_late(self) -> bool:
        """Tell whether the last words are overdue; if not, wait for what is left of their time only."""
        if self._last_words_due is None:
            return False
        left = self._last_words_due - time.monotonic()
        if left > 0:
            self.settimeout(left)  # nothing is sent any more that it could bound as well
        return left <= 0

    def interrupt(self) -> None:
        """Wake whatever waits on the connection, in any thread. What has arrived can still be read."""
        self.is_interrupted = True
        self._connecting.give_up()
        sock = self.sock
        if sock is not None:
            with suppress(OSError):  # not connected, or no more
                # Not a TLS socket's own: that forgets the encryption first, and reads and writes on without it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the descriptor, once no thread is inside a send. One that still connects closes it itself."""
        self.interrupt()
        if not self._connecting.leave():
            with self.lock:
                self.shutdown()

    def settimeout(self, timeout: float) -> None:
        """Bound each wait on the connection, in seconds.

        Python's own timeouts have it poll before each send and each recv, and every system call hands the interpreter
        to another thread. Linux can bound the call itself; under TLS, though, OpenSSL would repeat the call, and
        nobody would be told.
        """
        if sys.platform == "linux" and self.sock is not None and not self.is_ssl():
            self.sock.settimeout(None)
            seconds = struct.pack("@ll", *divmod(max(1, round(timeout * 1e6)), 10**6))  # 0 would mean no bound
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        else:
            super().settimeout(timeout)

    def _recv(self, _size: int) -> bytes:
        """Read what has arrived: websocket-client asks for each frame in three pieces, and keeps what is beyond them.

        The inherited method closes the socket when the peer does: see `release`.
        """
        if self._last_words_due is not None and time.monotonic() >= self._last_words_due:
            raise WebSocketTimeoutException  # pings arrive, and hide that nothing else does
        try:
            received: bytes = self.sock.recv(READ) if self.sock is not None else b""
        except (BlockingIOError, TimeoutError):  # the kernel's timeout, and Python's
            raise WebSocketTimeoutException from None
        if not received:
            raise WebSocketConnectionClosedException
        return received


class _BoundedFrames(frame_buffer):  # type: ignore[misc] # websocket-client has no types
    """Refuses a frame that is too large before it is received."""

    def recv_length(self) -> None:
        super().recv_length()
        if self.length > LARGEST:
            raise WebSocketPayloadException
