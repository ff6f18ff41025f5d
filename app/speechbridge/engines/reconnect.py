"""An engine whose streams outlive their connections.

This file knows what is particular to Rev.ai's protocol: a final settles the audio before its `end_ts`; a new connection
gets a `start_ts`, so that the timestamps of the client continue; a close code tells whether a retry may succeed.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.audio import loudness
from speechbridge.backoff import Backoff
from speechbridge.engines import Engine, Upstream, UpstreamClosed
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.messages import end_of_final
from syncbridge import Early, Resumable, Resumption, Stuck

if TYPE_CHECKING:
    from speechbridge.protocol.request import StreamRequest

logger = logging.getLogger(__name__)

ROOM_SECONDS = 60.0  # of audio in the replay buffer, received but not settled; less if a stream may not hold so much
HOLD_SECONDS = 30.0  # for which a connection had the audio, and no final settled it: then it may be evicted
TAIL_SECONDS = 1.0  # of speech that may stay without a final at a good end; if there is more, the end is doubted
TRIES = 16  # in a row that settle nothing; with these pauses about a minute
OUTAGE_SECONDS = 60.0  # without any connection, enough for a server to restart: the circuit breaker makes tries slow
BACKOFF = Backoff(0.2, 5.0)  # seconds; what many streams do at once is up to the circuit breaker

SPEECH = 500  # root mean square of 16-bit samples, -36 dBFS: a voice near a microphone is 1,000 to 4,000
QUIET = 200  # -44 dBFS: a room without a voice is 20 to 150
WINDOWS = 5  # a second, each judged for itself: a chunk may last for seconds, and one word must not drown in silence


@dataclass(frozen=True, slots=True)
class ReconnectOptions:
    """How long a connection may live, be silent while it gets speech, and take for its last words. In seconds.

    `stream_bytes` bounds the replay buffer, whatever the audio's rate.
    """

    lifetime: float = 10_200.0  # 2 h 50 min of Rev.ai's 3 h
    silence: float = 20.0
    replay_pace: float = 0.0  # multiple of real time at which audio is sent again; 0: as fast as it is taken
    answer: float = 30.0  # for the last words, from the end of the input on, over all connections
    stream_bytes: int = 3 * 2**20


def resuming(engine: Engine, options: ReconnectOptions) -> Engine:
    """Make an engine's streams resumable.

    A connection can begin in the middle of raw audio only if its seconds can be computed from its bytes. A stream in a
    container, or with other than 16-bit samples, has one connection.
    """

    def open_stream(request: StreamRequest) -> Upstream:
        frame = request.content_type.frame
        if frame is None:
            return engine(request)
        stream = _Stream(engine, request, options, frame)
        whole = stream.resumable
        return Upstream(whole, whole.abort, b"".join, whole.statistics, whole.input_ended)

    return open_stream


class _Stream:
    """The audio of one client over any number of connections: it converts between seconds and bytes."""

    def __init__(self, engine: Engine, request: StreamRequest, options: ReconnectOptions, frame: int) -> None:
        self._engine = engine
        self._request = request
        self._frame = frame  # bytes
        self._rate = frame * (request.content_type.rate or 16000)  # bytes a second
        window = self._rate // WINDOWS // self._frame * self._frame
        self._offset = float(request.options.get("start_ts", 0.0))
        self._evicted = 0  # bytes that were logged
        self._is_unavailable = False  # the speech service, when it was tried last
        self._unavailable_since = 0.0
        room = min(int(ROOM_SECONDS * self._rate), options.stream_bytes)
        self.resumable: Resumable[str] = Resumable(
            self._connect,
            Resumption(
                settled=self._settled,
                again=self._again,
                pause=self._pause,
                room=room,
                hold=HOLD_SECONDS * room / (ROOM_SECONDS * self._rate),  # or a small room would hold up the client
                unit=self._frame,
                tail=int(TAIL_SECONDS * self._rate),
                lazy=True,  # Rev.ai closes idle connections, and bills each for 15 s at least
                lifetime=options.lifetime,
                quiet=lambda chunk: loudness(chunk[-window:]) < QUIET,
                silence=options.silence,
                answer=options.answer,
                speech=lambda piece: any(
                    loudness(piece[begin : begin + window]) >= SPEECH for begin in range(0, len(piece), window)
                ),
                replay_rate=options.replay_pace * self._rate or None,
            ),
        )

    def _connect(self, position: int) -> Upstream:
        if evicted := self.resumable.statistics().evicted - self._evicted:
            self._evicted += evicted
            text = "%.1f s of audio cannot be sent again: too much waited for a final"
            logger.warning(text, evicted / self._rate)
        if position == 0:
            return self._engine(self._request)
        start_ts = self._offset + position / self._rate
        return self._engine(replace(self._request, options={**self._request.options, "start_ts": start_ts}))

    def _settled(self, response: str, _begun: int) -> int | None:
        end = end_of_final(response)
        position = math.nan if end is None else (end - self._offset) * self._rate
        return max(0, round(position)) if math.isfinite(position) else None  # JSON allows numbers up to 1e308

    def _again(self, error: Exception) -> bool:
        close = error.close if isinstance(error, UpstreamClosed) else None
        worth_it = isinstance(error, Early | Stuck) or (isinstance(error, UpstreamClosed) and error.is_retryable)
        logger.warning("the upstream ended early: %s; %s", error, "resuming" if worth_it else "giving up")
        self._is_unavailable = close is not None and close.code == CloseCode.UNAVAILABLE
        return worth_it

    def _pause(self, failures_in_a_row: int) -> float | None:
        now = time.monotonic()
        if failures_in_a_row <= 1 or not self._is_unavailable:
            self._unavailable_since = now
        if failures_in_a_row >= TRIES or now - self._unavailable_since >= OUTAGE_SECONDS:
            return None
        return BACKOFF.pause(failures_in_a_row)
