"""One stream through Rev.ai's SDK. The only import of rev_ai.

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
import time
from typing import TYPE_CHECKING, Any

from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.rev_failures import no_connection
from speechbridge.engines.rev_socket import RevSocket, Timeouts, WebSocketException, WebSocketTimeoutException
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import kind_of
from speechbridge.protocol.request import encode_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.engines.health import Health
    from speechbridge.protocol.request import StreamRequest

logger = logging.getLogger(__name__)

# Parameters of the protocol that the SDK's `start` does not take.
BEYOND_THE_SDK = ("max_segment_duration_seconds", "enable_speaker_switch", "priority", "max_connection_wait_seconds")


class RevStream:
    """One stream: one client, one connection, never used again."""

    def __init__(self, url: str, token: str, request: StreamRequest, health: Health, timeouts: Timeouts) -> None:
        beyond = {name: value for name, value in request.options.items() if name in BEYOND_THE_SDK}
        self._options = {name: value for name, value in request.options.items() if name not in BEYOND_THE_SDK}
        self._health = health
        self._timeouts = timeouts
        self._socket = RevSocket(encode_query(beyond), timeouts)
        self._client: Any = RevAiStreamingClient(
            token,
            MediaConfig(str(request.content_type)),
            on_close=self._on_close,
            on_connected=self._on_connected,
            url=url,
        )
        self._client.client = self._socket
        self.has_answered = False
        self._close: Close | None = None
        self._input_ended = False
        self._over = False

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        """Connect, then yield the upstream's messages as they come.

        Ends when the upstream has said its last words after the end of `audio`; raises UpstreamClosed for every
        other ending.
        """
        try:
            self._connect(audio)
            yield from self._responses()
            self._judge()
        finally:
            self._over = True
            self._socket.release()
            self._client = None  # or the two would keep each other, until the garbage collector finds them

    def abort(self) -> None:
        """End the stream: wake whatever waits on the socket, now or as soon as there is one. Thread-safe."""
        self._socket.interrupt()

    def _connect(self, audio: Iterator[bytes]) -> None:
        begun, took = time.perf_counter(), None
        try:
            self._client.start(self._feed(audio), **self._options)
            took = time.perf_counter() - begun
            self._health.has_connected = True
        except (OSError, WebSocketException, ValueError, LookupError, TypeError) as error:  # the last three: odd HTTP
            raise no_connection(error, self._health, self._timeouts) from None
        finally:
            self._health.connected(took)

    def _feed(self, audio: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in audio:
            if self._over:
                return
            yield chunk
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
        self.has_answered = True
        self._health.answered()

    def _on_close(self, code: int, reason: str) -> None:
        self._close = Close(code, reason)
