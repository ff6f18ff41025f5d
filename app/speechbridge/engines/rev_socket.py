"""The socket under Rev.ai's SDK: websocket-client's, corrected. The only import of websocket-client.

What is corrected, and why:

- It waits for ever: here each wait on the connection has a timeout. Connecting runs in a thread of its own, because
  nothing can interrupt a DNS lookup: so the whole of it is bounded, and can be given up at once. The thread that is
  left behind ends with its lookup, and closes what it has opened.
- It takes messages of any size, in any number of fragments: here both are bounded.
- A send that fails raises in the SDK's send thread, where nobody sees it, and often before the reader has got the close
  frame that says why: here the failure is noted, and the reader is woken.
- The parent closes the socket by itself when the peer does, possibly under a thread that sends. Its descriptor may
  belong to another connection by then, and the audio goes to a stranger. Here the socket is only shut down; `release`
  closes it once no thread is inside a send.
- The parent frames and masks by way of numpy, and checks UTF-8 by way of wsaccel, which nobody maintains any more, or
  character by character in Python. Here framing is a few lines around the compiled masking of websockets, which is
  installed anyway, and nothing checks UTF-8: the SDK decodes each text, which does. The reason of a close frame is made
  decodable, so that its code is never lost. CPU measured on Linux, for sending 3,200 bytes and for receiving a partial
  of eight words: 7 and 9 us; the parent with numpy and wsaccel takes 17 and 18 us.
- Of a connection that is refused the parent never closes the socket: here it is found in the traceback and closed.
- Errors show the URL, and in it the access token: `rev.py` lets none of them out.

Private names of websocket-client that this relies on: `WebSocket._recv`, through which its frame buffer reads, and
that the buffer keeps what it is given beyond what it asked for. Its methods that call the ones overridden here are
listed in tests/engines/test_rev_canary.py, which fails when one of them changes.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
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

from speechbridge.protocol.address import is_nearby

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this platform
    from websockets.utils import apply_mask

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
        self._connecting = threading.Lock()  # guards the next three
        self._is_connecting = False
        self._connect_failure: BaseException | None = None
        self._is_released = False
        self._woken = threading.Event()  # connecting is over, or has been interrupted
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
        self._is_connecting = True
        threading.Thread(target=self._connect, args=(url, options), name="rev-connect", daemon=True).start()
        self._woken.wait(self._timeouts.connect)
        with self._connecting:
            if self._is_connecting and not self.is_interrupted:
                raise TimeoutError
            failure = self._connect_failure
        if self.is_interrupted:  # an interrupt that comes from now on finds the socket
            raise WebSocketConnectionClosedException
        if failure is not None:
            raise failure
        self.settimeout(self._timeouts.answer)

    def _connect(self, url: str, options: dict[str, Any]) -> None:
        failure: BaseException | None = None
        try:
            super().connect(url, timeout=self._timeouts.connect, **options)
        except BaseException as error:  # noqa: BLE001 # raised in the thread that waits
            failure = error
            _close_sockets(error)
        with self._connecting:
            self._connect_failure, self._is_connecting = failure, False
            is_left_behind = self._is_released
        if is_left_behind:
            self.shutdown()
        self._woken.set()

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
        self._woken.set()
        sock = self.sock
        if sock is not None:
            with suppress(OSError):  # not connected, or no more
                # Not a TLS socket's own: that forgets the encryption first, and reads and writes on without it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the descriptor, once no thread is inside a send. One that still connects closes it itself."""
        self.interrupt()
        with self._connecting:
            self._is_released = True
            if self._is_connecting:
                return
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


def _close_sockets(error: BaseException) -> None:
    """Close the socket of a connection that failed: of one that was refused the parent forgets it.

    The traceback keeps the parent's variables, and so the descriptor, for as long as anybody keeps the error.
    """
    for called, _ in traceback.walk_tb(error.__traceback__):
        found = called.f_locals.get("sock")
        if isinstance(found, socket.socket):
            found.close()


class _BoundedFrames(frame_buffer):  # type: ignore[misc] # websocket-client has no types
    """Refuses a frame that is too large before it is received."""

    def recv_length(self) -> None:
        super().recv_length()
        if self.length > LARGEST:
            raise WebSocketPayloadException


def frame(data: bytes, opcode: int) -> bytes:
    """Return one final, masked frame: RFC 6455, 5.2."""
    size = len(data)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 2**16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    mask = os.urandom(4)
    return head + mask + apply_mask(data, mask)
