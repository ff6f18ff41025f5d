"""An engine whose streams outlive their connections.

What is particular to Rev.ai's protocol is here: a final settles the audio before its `end_ts`; a new connection is
given `start_ts`, so that a client's timestamps run on; a close code tells whether it is worth trying again.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speechbridge.audio import SAMPLE, loudness
from speechbridge.backoff import Backoff
from speechbridge.engines import Engine, Upstream, UpstreamClosed
from speechbridge.protocol.messages import end_of_final
from speechbridge.protocol.request import ContentType
from syncbridge import Early, Resumable, Resumption, Stuck

if TYPE_CHECKING:
    from speechbridge.protocol.request import StreamRequest

logger = logging.getLogger(__name__)

ROOM_SECONDS = 60.0  # of audio that waits to be settled; less where that is more than a stream may hold
HOLD_SECONDS = 30.0  # for which a connection may have had audio, unsettled, before it is evicted for lack of room
TAIL_SECONDS = 1.0  # of speech that a good end may leave unanswered: the upstream's word for it is not enough for more
TRIES = 16  # in a row that settle nothing; with these pauses about a minute, in which a server can restart
BACKOFF = Backoff(0.2, 5.0)  # seconds. A storm is the circuit's to prevent

SPEECH = 500  # root mean square of 16-bit samples, -36 dBFS: a voice near a microphone is 1,000 to 4,000
QUIET = 200  # -44 dBFS: a room without a voice is 20 to 150
WINDOWS = 5  # a second: a chunk may be a client's 2 s, or several in one, and one word in it must not drown in silence


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an upstream connection may live, and be silent under speech, in seconds; what a stream may hold."""

    lifetime: float = 10_200.0  # 2 h 50 min of Rev.ai's 3 h
    silence: float = 20.0
    replay_pace: float = 0.0  # multiple of real time at which audio is given again; 0: as fast as it is taken
    stream_bytes: int = 3 * 2**20  # of audio that waits to be settled, whatever its rate


def resuming(engine: Engine, patience: Patience) -> Engine:
    """Make an engine's streams resumable.

    Only raw audio whose seconds can be told from its bytes can begin in its middle; a stream in a container, or of
    other samples than 16-bit ones, has one connection, as before.
    """

    def open_stream(request: StreamRequest) -> Upstream:
        kind = request.content_type
        interleaved = kind.layout == "interleaved" or kind.channels == 1
        if kind.media != ContentType.RAW or kind.format != "S16LE" or not interleaved:
            return engine(request)
        stream = _Stream(engine, request, patience)
        return Upstream(stream.resumable, stream.resumable.abort, b"".join, stream.resumable.statistics)

    return open_stream


class _Stream:
    """One client's audio over any number of connections: seconds of the protocol, bytes of the ring."""

    def __init__(self, engine: Engine, request: StreamRequest, patience: Patience) -> None:
        kind = request.content_type
        self._engine = engine
        self._request = request
        self._frame = SAMPLE * (kind.channels or 1)
        self._rate = self._frame * (kind.rate or 16000)  # bytes a second
        window = self._rate // WINDOWS // self._frame * self._frame
        self._offset = float(request.options.get("start_ts", 0.0))
        self._evicted = 0  # bytes, of which the log was told
        self.resumable: Resumable[str] = Resumable(
            self._connect,
            Resumption(
                settled=self._settled,
                again=_again,
                pause=_pause,
                room=min(int(ROOM_SECONDS * self._rate), patience.stream_bytes),
                hold=HOLD_SECONDS,
                unit=self._frame,
                tail=int(TAIL_SECONDS * self._rate),
                lazy=True,  # Rev.ai closes a connection on which nothing comes, and bills each for 15 s at least
                lifetime=patience.lifetime,
                quiet=lambda chunk: loudness(chunk[-window:]) < QUIET,
                silence=patience.silence,
                speech=lambda piece: any(
                    loudness(piece[begin : begin + window]) >= SPEECH for begin in range(0, len(piece), window)
                ),
                replay_rate=patience.replay_pace * self._rate or None,
            ),
        )

    def _connect(self, position: int) -> Upstream:
        if evicted := self.resumable.statistics().evicted - self._evicted:
            self._evicted += evicted
            text = "%.1f s of audio cannot be given again: too much waited for a final"
            logger.warning(text, evicted / self._rate)
        if position == 0:
            return self._engine(self._request)
        start_ts = self._offset + position / self._rate
        return self._engine(replace(self._request, options={**self._request.options, "start_ts": start_ts}))

    def _settled(self, response: str, _begun: int) -> int | None:
        end = end_of_final(response)
        position = math.nan if end is None else (end - self._offset) * self._rate
        return max(0, round(position)) if math.isfinite(position) else None  # JSON's numbers go to 1e308


def _again(error: Exception) -> bool:
    worth_it = isinstance(error, Early | Stuck) or (isinstance(error, UpstreamClosed) and error.close.is_retryable)
    logger.warning("the upstream ended early: %s; %s", error, "resuming" if worth_it else "giving up")
    return worth_it


def _pause(failures_in_a_row: int) -> float | None:
    if failures_in_a_row >= TRIES:
        return None
    return BACKOFF.pause(failures_in_a_row)
