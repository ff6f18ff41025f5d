"""Rev.ai's SDK as an engine. The only import of rev_ai, of the websocket-client under it, and of wsaccel under that.

The SDK is used as it is, through `RevAiStreamingClient.start`. It is written for a script with one stream, though,
and a service must defend itself against that. What is measured of it, and what is done about it here:

- It connects inside `start`, without a timeout: `_Socket.connect` sets one for connecting and one for afterwards.
- Every close frame ends its responses *normally*, a refusal too; only `on_close` tells, and a close frame without a
  code tells nobody: the code is remembered, and judged when the responses end.
- It answers a close frame before it reports it, so a peer that has dropped the connection by then costs the code:
  a send that fails is remembered, not raised.
- Its send thread dies with a traceback when the connection breaks, or goes on sending to a socket that is closed:
  the same cure, and the feed stops once the responses have ended.
- It never closes its socket, and closing one under a thread that sends may send to a stranger, whose connection got
  the same descriptor: the socket is shut first, and closed when the sender has let go.
- A malformed message kills its response generator, but not the stream: a new generator goes on, on the same socket.
- `start` lacks four of the protocol's parameters: they are appended to the URL.
- The access token is in the URL: no exception of websocket-client that shows one leaves this file.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import websocket
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient
from wsaccel.xormask import XorMaskerSimple

from speechbridge.engines import Upstream, UpstreamClosed
from speechbridge.engines.circuit import Circuit
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.request import encode_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.protocol.request import StreamRequest

logger = logging.getLogger(__name__)

READ = 2**10  # bytes at once: a partial or two. Each waiting thread holds so much memory

MESSAGE = 2**16  # bytes at most, 2 s of 16 kHz mono: more may have queued up, but who knows what an upstream takes

# Parameters of the protocol that the SDK's `start` does not take.
BEYOND_THE_SDK = ("max_segment_duration_seconds", "enable_speaker_switch", "priority", "max_connection_wait_seconds")

# What an HTTP status in place of the 101 means in the protocol's own codes; a proxy may send one. Others: 4013.
STATUSES = {
    400: CloseCode.BAD_REQUEST,
    401: CloseCode.UNAUTHORIZED,
    402: CloseCode.NO_CREDITS,
    403: CloseCode.UNAUTHORIZED,
    429: CloseCode.TOO_MANY,
}


FAILING = "the speech service fails for everybody at the moment"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds. `connect` bounds each step of connecting, `answer` the wait for the last words, and for room."""

    connect: float = 5.0
    answer: float = 30.0  # a guess; Rev.ai's finals come within seconds of EOS


class RevEngine:
    """Opens streams to Rev.ai's cloud, or to any server that speaks its protocol.

    `url` is asked for each stream: `wss://host` or `ws://host:port`, without the path. It may raise UpstreamClosed
    while there is nowhere to go. `connected` is told how many seconds each connection took, None where there was none;
    it is called from the workers.
    """

    def __init__(
        self,
        url: Callable[[], str],
        token: str,
        timeouts: Timeouts | None = None,
        connected: Callable[[float | None], object] = lambda _seconds: None,
    ) -> None:
        self._url = url
        self._token = token
        self._timeouts = timeouts or Timeouts()
        self._connected = connected
        self.circuit = Circuit()

    def __call__(self, request: StreamRequest) -> Upstream:
        url = self._url().rstrip("/")
        stream = _Stream(url, self._token, request, self._timeouts, circuit=self.circuit, connected=self._connected)
        return Upstream(stream.start, stream.abort, b"".join)

    def trouble(self) -> str | None:
        """Tell why a stream that came now would not get through; None as far as is known it would."""
        try:
            self._url()
        except UpstreamClosed as ending:
            return ending.close.reason
        return FAILING if self.circuit.holds_back else None


class _Stream:
    """One stream: one client, one connection, never used again."""

    def __init__(  # noqa: PLR0913 # what is its own, and what its engine's streams share
        self,
        url: str,
        token: str,
        request: StreamRequest,
        timeouts: Timeouts,
        *,
        circuit: Circuit,
        connected: Callable[[float | None], object],
    ) -> None:
        beyond = {name: value for name, value in request.options.items() if name in BEYOND_THE_SDK}
        self._options = {name: value for name, value in request.options.items() if name not in BEYOND_THE_SDK}
        self._timeouts = timeouts
        self._socket = _Socket(encode_query(beyond), timeouts)
        self._client: Any = RevAiStreamingClient(
            token,
            MediaConfig(str(request.content_type)),
            on_close=self._on_close,
            on_connected=self._on_connected,
            url=url,
        )
        self._client.client = self._socket
        self._circuit = circuit
        self._connected = connected
        self._has_answered = False
        self._close: Close | None = None
        self._input_ended = False
        self._over = False

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        """Connect, then yield the upstream's messages as they come.

        Ends when the upstream has said its last words after the end of `audio`; raises UpstreamClosed for every
        other ending.
        """
        entry = self._circuit.enter(lambda: self._socket.is_interrupted, self._timeouts.answer)
        if entry is None:
            raise UpstreamClosed(Close(CloseCode.UNAVAILABLE, FAILING))
        try:
            self._connect(audio)
            yield from self._responses()
            self._judge()
        except UpstreamClosed as ending:
            if not ending.close.is_retryable:  # this stream was refused; the service itself works
                self._answered()
            raise
        finally:
            self._over = True
            self._socket.release()
            if not self._has_answered:
                self._circuit.failed(entry)

    def abort(self) -> None:
        """Wake whatever waits on the socket, now or as soon as there is one."""
        self._socket.interrupt()
        self._circuit.wake()

    def _connect(self, audio: Iterator[bytes]) -> None:
        begun, took = time.perf_counter(), None
        try:
            self._client.start(self._feed(audio), **self._options)
            took = time.perf_counter() - begun
        except websocket.WebSocketBadStatusException as error:
            code = STATUSES.get(error.status_code, CloseCode.UNAVAILABLE)
            raise UpstreamClosed(Close(code, f"the speech service answered HTTP {error.status_code}")) from None
        except (OSError, websocket.WebSocketException) as error:
            logger.warning("the upstream cannot be reached: %s", type(error).__name__)
            raise UpstreamClosed(Close(CloseCode.UNAVAILABLE, "the speech service cannot be reached")) from None
        finally:
            self._connected(took)

    def _feed(self, audio: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in audio:
            for start in range(0, len(chunk), MESSAGE):
                if self._over:
                    return
                yield chunk[start : start + MESSAGE]
        self._socket.expect_last_words()
        self._input_ended = True  # the SDK sends EOS next

    def _responses(self) -> Iterator[str]:
        while True:
            try:
                for response in self._client._get_response_generator():  # noqa: SLF001 # what `start` returns, again
                    if response:  # '' stands for a binary message
                        yield response  # may wait long for a client that does not read
                    if self._input_ended:
                        self._socket.expect_last_words()
            except websocket.WebSocketTimeoutException:
                if self._socket.is_too_late():
                    seconds = self._timeouts.answer
                    reason = f"the speech service said nothing for {seconds:g} s after the end of the input"
                    raise UpstreamClosed(Close(CloseCode.ABNORMAL, reason)) from None
            except (OSError, websocket.WebSocketException) as error:
                logger.warning("the upstream connection broke: %s", type(self._socket.failure or error).__name__)
                raise UpstreamClosed(Close(CloseCode.ABNORMAL, "the connection to the speech service broke")) from None
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("a message of the upstream was malformed and is skipped: %s", type(error).__name__)
            else:
                return

    def _judge(self) -> None:
        close = self._close or Close(CloseCode.NO_CODE, "the speech service closed without a code")
        if not close.is_success(eos_sent=self._input_ended):
            raise UpstreamClosed(close)

    def _on_connected(self, job_id: str) -> None:
        logger.info("upstream job %s", job_id)
        self._answered()

    def _answered(self) -> None:
        self._has_answered = True
        self._circuit.succeeded()

    def _on_close(self, code: int, reason: str) -> None:
        self._close = Close(code, reason)


class _Frame(websocket.ABNF):  # type: ignore[misc] # websocket-client has no types
    """A frame, masked at once; the inherited code goes by way of numpy, which is much to get into the caches for it."""

    def _get_masked(self, key: bytes) -> bytes:
        masked: bytes = XorMaskerSimple(key).process(self.data)
        return key + masked


class _Socket(websocket.WebSocket):  # type: ignore[misc] # websocket-client has no types
    """websocket-client's socket, with timeouts, and safe to send to from a thread that nobody listens to."""

    def __init__(self, beyond: str, timeouts: Timeouts) -> None:
        options = []
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a peer that vanished with our audio unacknowledged
            options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeouts.answer * 1000)))
        super().__init__(sockopt=options, enable_multithread=True)
        self._beyond = beyond
        self._timeouts = timeouts
        self._last_words_due: float | None = None  # by the monotonic clock
        self.is_interrupted = False
        self.failure: Exception | None = None

    def connect(self, url: str, **options: Any) -> None:
        super().connect(f"{url}&{self._beyond}" if self._beyond else url, timeout=self._timeouts.connect, **options)
        self.settimeout(self._timeouts.answer)
        if self.is_interrupted:  # while it connected; if it comes from now on, it finds the socket
            raise websocket.WebSocketConnectionClosedException

    def send(self, payload: bytes | str, opcode: int = websocket.ABNF.OPCODE_TEXT) -> int:
        try:
            data = payload.encode() if isinstance(payload, str) else payload
            return int(self.send_frame(_Frame(1, 0, 0, 0, opcode, 1, data)))
        except (OSError, websocket.WebSocketException) as error:
            self.failure = self.failure or error
            self.interrupt()  # the reader is told; what has arrived already it still reads
            return 0

    def expect_last_words(self) -> None:
        """Bound the wait for what is said next, whoever waits already."""
        self._last_words_due = time.monotonic() + self._timeouts.answer

    def is_too_late(self) -> bool:
        """Tell whether the last words are overdue; if not, wait for what is left of their time only."""
        if self._last_words_due is None:
            return False
        left = self._last_words_due - time.monotonic()
        if left > 0:
            self.settimeout(left)  # nothing is sent any more that it could bound as well
        return left <= 0

    def interrupt(self) -> None:
        self.is_interrupted = True
        sock = self.sock
        if sock is not None:
            with suppress(OSError):  # not connected, or no more
                # Not a TLS socket's own: that forgets the encryption first, and reads and writes on without it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the descriptor, once no thread is inside a send."""
        self.interrupt()
        with self.lock:
            self.shutdown()

    def settimeout(self, timeout: float) -> None:
        """Bound each wait on the connection, in seconds.

        Python's own timeouts have it poll before each send and each recv, and every system call hands the interpreter
        to another thread. Linux can bound the call itself, but under TLS, which tries again, nobody would be told.
        """
        if sys.platform == "linux" and self.sock is not None and not self.is_ssl():
            self.sock.settimeout(None)
            seconds = struct.pack("@ll", *divmod(max(1, round(timeout * 1e6)), 10**6))  # 0 would be for ever
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        else:
            super().settimeout(timeout)

    def _send(self, data: bytes) -> int:
        if self.sock is None:
            raise websocket.WebSocketConnectionClosedException
        sent: int = self.sock.send(data)
        return sent

    def _recv(self, _size: int) -> bytes:
        """Read what has come: websocket-client asks for each frame in three pieces, and keeps what it is given more.

        The inherited one closes the socket on its own when the peer does: see `release`.
        """
        if self._last_words_due is not None and time.monotonic() >= self._last_words_due:
            raise websocket.WebSocketTimeoutException  # pings come, and hide that nothing else does
        try:
            received: bytes = self.sock.recv(READ) if self.sock is not None else b""
        except (BlockingIOError, TimeoutError):  # the kernel's word for it, and Python's
            raise websocket.WebSocketTimeoutException from None
        if not received:
            raise websocket.WebSocketConnectionClosedException
        return received
