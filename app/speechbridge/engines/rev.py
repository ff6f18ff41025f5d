"""Rev.ai's SDK as an engine. The only import of rev_ai.

The SDK is used as it is, through `RevAiStreamingClient.start`. It is written for a script with one stream, though,
and a service must defend itself against that. What was measured of it, and what is done about it here:

- It connects inside `start`, without a timeout, and its socket waits for ever: it is given one of ours (`rev_socket`).
- Every close frame ends its responses *normally*, a refusal too; only `on_close` tells, and a close frame without a
  code tells nobody: the code is remembered, and judged when the responses end.
- It answers a close frame before it reports it, so a peer that has dropped the connection by then costs the code:
  a send that fails is noted, not raised.
- Its send thread dies with a traceback when the connection breaks, or goes on sending to a socket that is closed:
  the same remedy, and the feed stops once the responses have ended.
- It never closes its socket: it is released when the responses end.
- A malformed message ends its response generator, but not the stream: a new generator goes on, on the same socket.
- `start` lacks four of the protocol's parameters: they are appended to the URL.
- The access token is in the URL: no exception of websocket-client, which may show the URL, leaves this file.

Private names of rev_ai that this relies on: `RevAiStreamingClient._get_response_generator`, which `start` returns.
tests/engines/test_rev_canary.py lists what else it does with the socket, and fails when that changes.
"""

from __future__ import annotations

import logging
import ssl
import time
from typing import TYPE_CHECKING, Any

from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.engines import Upstream, UpstreamClosed
from speechbridge.engines.circuit import Circuit
from speechbridge.engines.rev_socket import (
    RevSocket,
    Timeouts,
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketException,
    WebSocketTimeoutException,
)
from speechbridge.protocol.close import Close, CloseCode, fit_reason
from speechbridge.protocol.messages import kind_of
from speechbridge.protocol.request import encode_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.protocol.request import StreamRequest

__all__ = ["RevEngine", "Timeouts"]

logger = logging.getLogger(__name__)

MESSAGE = 2**16  # bytes at most, 2 s of 16 kHz mono: more may have queued up, but who knows what an upstream takes

# Parameters of the protocol that the SDK's `start` does not take.
BEYOND_THE_SDK = ("max_segment_duration_seconds", "enable_speaker_switch", "priority", "max_connection_wait_seconds")

# What an HTTP status in place of the 101 means in the protocol's own codes; a proxy may send one. Others: 4013.
STATUSES = {
    400: CloseCode.BAD_REQUEST,
    401: CloseCode.UNAUTHORIZED,
    402: CloseCode.NO_CREDITS,
    403: CloseCode.UNAUTHORIZED,
    413: CloseCode.BAD_REQUEST,
    414: CloseCode.BAD_REQUEST,
    431: CloseCode.BAD_REQUEST,  # these three: the client's own parameters are too long
    429: CloseCode.TOO_MANY,
}


FAULT_SECONDS = 5.0  # for which a connection that failed for good counts as trouble: then another one may try

FAILING = "the speech service fails for all streams at the moment"


class RevEngine:
    """Opens streams to Rev.ai's cloud, or to any server that speaks its protocol.

    `url` is asked for each stream: `wss://host` or `ws://host:port`, without the path. It may raise UpstreamClosed
    while there is none. `connected` is called from the workers with the seconds that each connection took; with None
    for one that failed.
    """

    def __init__(
        self,
        url: Callable[[], str],
        token: str,
        timeouts: Timeouts | None = None,
        connected: Callable[[float | None], object] = lambda _seconds: None,
    ) -> None:
        self.token = token
        self.timeouts = timeouts or Timeouts()
        self.connected = connected
        self.circuit = Circuit()
        self.has_connected = False  # ever: so its address is right
        self._url = url
        self._fault, self._fault_at = "", 0.0

    def __call__(self, request: StreamRequest) -> Upstream:
        stream = _Stream(self, self._url().rstrip("/"), request)
        return Upstream(stream.start, stream.abort, b"".join)

    def trouble(self) -> str | None:
        """Return why a new stream would not get through; None if nothing is known to be wrong."""
        try:
            self._url()
        except UpstreamClosed as ending:
            return ending.close.reason
        if time.monotonic() < self._fault_at + FAULT_SECONDS:
            return self._fault
        return FAILING if self.circuit.holds_back else None

    def unreachable(self, reason: str, *, is_retryable: bool) -> UpstreamClosed:
        """Return what to raise when there is no connection; note it if a retry is of no use."""
        if not is_retryable:
            self._fault, self._fault_at = reason, time.monotonic()
        return UpstreamClosed(Close(CloseCode.UNAVAILABLE, fit_reason(reason)), is_retryable=is_retryable)


class _Stream:
    """One stream: one client, one connection, never used again."""

    def __init__(self, engine: RevEngine, url: str, request: StreamRequest) -> None:
        beyond = {name: value for name, value in request.options.items() if name in BEYOND_THE_SDK}
        self._options = {name: value for name, value in request.options.items() if name not in BEYOND_THE_SDK}
        self._engine = engine
        self._circuit = engine.circuit
        self._timeouts = engine.timeouts
        self._socket = RevSocket(encode_query(beyond), engine.timeouts)
        self._client: Any = RevAiStreamingClient(
            engine.token,
            MediaConfig(str(request.content_type)),
            on_close=self._on_close,
            on_connected=self._on_connected,
            url=url,
        )
        self._client.client = self._socket
        self._has_answered = False
        self._is_aborted = False  # by us: the upstream is not to blame
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
            if not ending.is_retryable:  # for this stream only; or else each stream is told why, and waits for no probe
                self._answered()
            raise
        finally:
            self._over = True
            self._socket.release()
            if self._is_aborted and not self._has_answered:
                self._circuit.abandoned(entry)
            elif not self._has_answered:
                self._circuit.failed(entry)

    def abort(self) -> None:
        """End the stream: wake whatever waits on the socket, now or as soon as there is one. Thread-safe."""
        self._is_aborted = True
        self._socket.interrupt()
        self._circuit.wake()

    def _connect(self, audio: Iterator[bytes]) -> None:
        begun, took = time.perf_counter(), None
        try:
            self._client.start(self._feed(audio), **self._options)
            took = time.perf_counter() - begun
            self._engine.has_connected = True
        except WebSocketBadStatusException as error:
            code = STATUSES.get(error.status_code, CloseCode.UNAVAILABLE)
            raise UpstreamClosed(Close(code, f"the speech service answered HTTP {error.status_code}")) from None
        except (OSError, WebSocketException, ValueError, LookupError, TypeError) as error:  # the last three: odd HTTP
            logger.warning("the upstream cannot be reached: %s", type(error).__name__)
            raise self._unreachable(error) from None
        finally:
            self._engine.connected(took)

    def _unreachable(self, error: Exception) -> UpstreamClosed:
        """Return what to raise for an error while connecting.

        If no stream ever got through, a wrong address is more likely than an outage: the client is told at once.
        """
        has_connected = self._engine.has_connected
        match error:
            case ssl.SSLCertVerificationError():
                reason = f"the speech service's certificate is not valid: {error.verify_message}"
                return self._engine.unreachable(reason, is_retryable=False)
            case TimeoutError() | WebSocketTimeoutException():
                reason = f"the speech service did not answer within {self._timeouts.connect:g} s"
                return self._engine.unreachable(reason, is_retryable=has_connected)
            case WebSocketAddressException():
                return self._engine.unreachable("the speech service's host is not known", is_retryable=has_connected)
        return self._engine.unreachable("the speech service cannot be reached", is_retryable=True)

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
                        yielded = time.monotonic()
                        yield response  # may wait long for a client that does not read
                        self._socket.postpone_last_words(time.monotonic() - yielded)
                        if self._input_ended and kind_of(response) == "final":
                            self._socket.expect_last_words()
            except WebSocketTimeoutException:
                if self._socket.is_too_late():
                    seconds = self._timeouts.answer
                    reason = f"the input ended, and the speech service sent no final for {seconds:g} s"
                    raise UpstreamClosed(Close(CloseCode.ABNORMAL, reason)) from None
            except (OSError, WebSocketException) as error:
                logger.warning("the upstream connection broke: %s", type(self._socket.failure or error).__name__)
                raise UpstreamClosed(Close(CloseCode.ABNORMAL, "the connection to the speech service broke")) from None
            except (ValueError, KeyError, TypeError, RecursionError) as error:
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
