"""Streams that outlive their connections, for any engine.

A final settles the audio before its `end_ts`. A new connection gets a `start_ts`, so that the client's timestamps
continue. The close code says whether a retry may succeed.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.audio import loudness
from speechbridge.backoff import Backoff
from speechbridge.engines import Capabilities, Upstream, UpstreamClosed
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.messages import end_of_final
from syncbridge import Early, Resumable, Resumption, Stuck

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.engines import Open, Settled
    from speechbridge.protocol.request import StreamRequest

logger = logging.getLogger(__name__)

LINGER_SECONDS = 2.0  # for a connection to end by itself, once its input has ended and all audio is settled
TRIES = 16  # in a row that settle nothing; with these pauses about a minute
OUTAGE_SECONDS = 60.0  # without any connection: long enough for a server to restart
BACKOFF = Backoff(0.2, 5.0)  # seconds; the circuit breaker limits the rate of all streams together

SPEECH = 500  # root mean square of 16-bit samples, -36 dBFS: a voice near a microphone is 1,000 to 4,000
QUIET = 200  # -44 dBFS: a room without a voice is 20 to 150
WINDOWS = 5  # per second, each measured by itself: in a chunk of seconds, one word would not raise the average enough
PAUSE_SECONDS = 0.3  # of quiet between two words, at least; a plosive within a word takes half of that


@dataclass(frozen=True, slots=True)
class ReconnectOptions:
    """Limits of a stream and its connections. Times are in seconds."""

    lifetime: float = 10_200.0  # of a connection, or the engine's if that is less; 2 h 50 min of Rev.ai's 3 h
    silence: float = 20.0  # of a connection that gets speech: then it is replaced
    replay_pace: float = 0.0  # multiple of real time at which audio is sent again; 0: as fast as the engine takes it
    answer: float = 30.0  # for the last words, from the end of the input on, over all connections
    stream_bytes: int = 3 * 2**20  # the largest replay buffer, whatever the audio's rate


def settled_by_final(response: str, _begun: float) -> float | None:
    """Return the `end_ts` of a final in our protocol; None for any other message. Most engines settle like this."""
    return end_of_final(response)


def resuming(
    open_stream: Open,
    options: ReconnectOptions,
    capabilities: Capabilities | None = None,
    settled: Settled = settled_by_final,
    stuck: Callable[[], object] = lambda: None,
) -> Open:
    """Make an engine's streams resumable. `stuck` is called when a connection was aborted because it did not answer.

    A stream has only one connection if its audio cannot be cut at any sample.
    """

    def opened(request: StreamRequest) -> Upstream:
        frame = request.content_type.frame
        if frame is None:
            return open_stream(request)
        stream = _Stream(open_stream, request, options, capabilities or Capabilities(), settled, frame, stuck)
        whole = stream.resumable
        return Upstream(whole, whole.abort, b"".join, whole.statistics, whole.input_ended, on_stuck=whole.on_stuck)

    return opened


class _Stream:
    """One client's stream over any number of connections. It converts between seconds and bytes."""

    def __init__(  # noqa: PLR0913, PLR0917 # all that a stream depends on
        self,
        open_stream: Open,
        request: StreamRequest,
        options: ReconnectOptions,
        capabilities: Capabilities,
        settled: Settled,
        frame: int,
        stuck: Callable[[], object],
    ) -> None:
        self._open = open_stream
        self._settled_by = settled
        self._stuck = stuck
        self._request = request
        self._frame = frame  # bytes
        self._rate = rate = frame * (request.content_type.rate or 16000)  # bytes a second
        window = rate // WINDOWS // frame * frame
        self._offset = float(request.options.get("start_ts", 0.0))
        self._evicted = 0  # bytes whose eviction was logged
        self._is_unavailable = False  # the speech service, at the last try
        self._unavailable_since = 0.0
        self._retry_at_once = False
        room = min(int(capabilities.room * rate), options.stream_bytes)
        self.resumable: Resumable[str] = Resumable(
            self._connect,
            Resumption(
                settled=self._settled,
                again=self._again,
                pause=self._pause,
                room=room,
                # In proportion to the room: otherwise a small buffer is full before anything may be evicted.
                hold=capabilities.hold * room / (capabilities.room * rate),
                unit=frame,
                tail=int(capabilities.tail * rate),
                lazy=True,  # services close idle connections, and Rev.ai bills each for at least 15 s
                lifetime=min(options.lifetime, capabilities.lifetime or math.inf),
                quiet=lambda piece: loudness(piece) < QUIET,
                window=int(PAUSE_SECONDS * rate) // frame * frame,
                finals_first=True,
                linger=LINGER_SECONDS,
                silence=options.silence,
                answer=options.answer,
                speech=lambda piece: any(
                    loudness(piece[begin : begin + window]) >= SPEECH for begin in range(0, len(piece), window)
                ),
                replay_rate=options.replay_pace * rate or None,
            ),
        )

    def _connect(self, position: int) -> Upstream:
        if evicted := self.resumable.statistics().evicted - self._evicted:
            self._evicted += evicted
            text = "%.1f s of audio cannot be sent again: the replay buffer was full"
            logger.warning(text, evicted / self._rate)
        if position == 0:
            return self._open(self._request)
        start_ts = self._offset + position / self._rate
        return self._open(replace(self._request, options={**self._request.options, "start_ts": start_ts}))

    def _settled(self, response: str, begun: int) -> int | None:
        end = self._settled_by(response, self._offset + begun / self._rate)
        position = math.nan if end is None else (end - self._offset) * self._rate
        return max(0, round(position)) if math.isfinite(position) else None  # JSON allows numbers up to 1e308

    def _again(self, error: Exception) -> bool:
        ending = error if isinstance(error, UpstreamClosed) else None
        is_retryable = ending.is_retryable if ending else isinstance(error, Early | Stuck)
        logger.warning("the upstream ended early: %s; %s", error, "resuming" if is_retryable else "giving up")
        if isinstance(error, Stuck):
            self._stuck()
        self._retry_at_once = ending is not None and ending.retry_at_once
        self._is_unavailable = ending is not None and ending.close.code == CloseCode.UNAVAILABLE
        return is_retryable

    def _pause(self, failures_in_a_row: int) -> float | None:
        now = time.monotonic()
        if failures_in_a_row <= 1 or not self._is_unavailable:
            self._unavailable_since = now
        if failures_in_a_row >= TRIES or now - self._unavailable_since >= OUTAGE_SECONDS:
            return None
        return 0.0 if self._retry_at_once else BACKOFF.pause(failures_in_a_row)
