"""One stream through Rev.ai's SDK. The only import of rev_ai.

The SDK is used unmodified, through `RevAiStreamingClient.start`. It is written for a script with one stream, and lacks
what a service needs. Its observed flaws, and what this module does about them:

- It connects inside `start`, without a timeout, and its socket waits without limit: it gets a socket of ours
  (`rev_socket`).
- Every close frame ends its responses *normally*, even a refusal. Only `on_close` gets the code, and is not called for
  a close frame without one: the code is kept, and examined when the responses end.
- It answers a close frame before it calls `on_close`. If the peer has dropped the connection by then, the answer fails
  and the code is lost: so our socket records a failed send, and does not raise.
- When the connection breaks, its send thread dies with a traceback, or goes on sending to a closed socket: our socket
  does not raise, and the audio iterator ends once the responses have ended.
- It never closes its socket: it is released when the responses end.
- A malformed message ends its response generator, but not the stream: a new generator continues on the same socket.
- `start` lacks four of the protocol's parameters: they are appended to the URL.
- The access token is in the URL: exceptions of websocket-client, which may show the URL, do not leave this module.

Private names of rev_ai that this relies on: `RevAiStreamingClient._get_response_generator`, which `start` returns.
tests/engines/test_rev_canary.py lists what else the SDK does with the socket, and fails when that changes.
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
    """One stream: one client of the SDK and one connection, never used again."""

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
        self._has_ended = False

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        """Connect, then yield the upstream's messages as they arrive.

        Ends when the upstream has sent its last words after the end of `audio`; raises UpstreamClosed for every other
        end.
        """
        try:
            self._connect(audio)
            yield from self._responses()
            self._check_close()
        finally:
            self._has_ended = True
            self._socket.release()
            self._client = None  # breaks a reference cycle: freed at once, without the garbage collector

    def abort(self) -> None:
        """End the stream: wake every thread that waits on the socket, or will wait on it. Thread-safe."""
        self._socket.interrupt()

    def _connect(self, audio: Iterator[bytes]) -> None:
        begun, took = time.perf_counter(), None
        try:
            self._client.start(self._feed(audio), **self._options)
            took = time.perf_counter() - begun
            self._health.has_connected = True
        # The last four: websocket-client raises them for malformed HTTP responses, and for malformed cookies in them.
        except (OSError, WebSocketException, ValueError, LookupError, TypeError, AttributeError) as error:
            raise no_connection(error, self._health, self._timeouts) from None
        finally:
            self._health.connected(took)

    def _feed(self, audio: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in audio:
            if self._has_ended:
                return
            yield chunk
        self._socket.expect_last_words()
        self._input_ended = True  # the SDK sends EOS next

    def _responses(self) -> Iterator[str]:
        while True:
            try:
                for response in self._client._get_response_generator():  # noqa: SLF001 # as `start` returns it
                    if response:  # the SDK yields '' for a binary message
                        yielded = time.monotonic()
                        yield response  # may block for long if the client does not read
                        self._socket.postpone_last_words(time.monotonic() - yielded)
                        if self._input_ended and kind_of(response) == "final":
                            self._socket.expect_last_words()
            except WebSocketTimeoutException:
                if self._socket.are_last_words_overdue():
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

    def _check_close(self) -> None:
        close = self._close or Close(CloseCode.NO_CODE, "the speech service closed without a code")
        if not close.is_success(eos_sent=self._input_ended):
            raise UpstreamClosed(close)

    def _on_connected(self, job_id: str) -> None:
        logger.info("upstream job %s", job_id)
        self.has_answered = True
        self._health.answered()

    def _on_close(self, code: int, reason: str) -> None:
        self._close = Close(code, reason)
