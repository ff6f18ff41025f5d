"""The replay buffer of a resumable stream: the audio that it may have to send again. Pure.

Positions are bytes since the beginning of the audio. Three of them grow: up to `sent`, the audio was sent to the
service on this connection; up to `acknowledged`, the service has received it; up to `settled`, finals cover it. Audio
is kept until it is settled, because from then on a restart of the service cannot lose it. The service's own stream
begins at `base`: at 0, or, after a new stream had to begin, where the finals of the previous one ended.

No final settles silence, so a full buffer must evict something: it evicts audio that the service acknowledged
`HOLD_SECONDS` ago (less in a smaller buffer). This audio is lost only if the service forgets the stream afterwards;
`lost` counts it.

A stream of audio in a container, or of samples that are not S16LE, cannot begin in the middle of its audio. So it
cannot begin anew, and keeps audio only until the service has acknowledged it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from speechbridge.protocol.request import encode_query
from speechbridge.protocol.resume import Resume
from syncbridge import Ring

if TYPE_CHECKING:
    from speechbridge.protocol.messages import Final
    from speechbridge.protocol.queue import Queue
    from speechbridge.protocol.request import StreamRequest
    from speechbridge.protocol.resume import Greeting

ROOM = 2**21  # bytes, the smallest default: a minute of 16 kHz mono, as the service keeps a stream for a minute
ROOM_SECONDS = 65.0  # the same for formats with more bytes per second
HOLD_SECONDS = 30.0  # after which the recognizer has sent all finals that it is going to send for this audio
PIECE = 3200  # bytes in one message: 100 ms of 16 kHz mono. Small messages get through a network that breaks often


class Replay:
    """The audio of one stream. `room` is the size of the buffer in bytes; None: a minute of the request's format."""

    def __init__(self, request: StreamRequest, room: int | None = None) -> None:
        kind = request.content_type
        self._frame = kind.frame or 1
        self._rate = kind.byte_rate if kind.frame else None  # bytes per second; None: it cannot begin in the middle
        minute = max(ROOM, int(ROOM_SECONDS * (self._rate or 0)))
        self._room = room or minute
        # In proportion to the size: otherwise live audio fills a small buffer before anything may be evicted.
        self._hold = HOLD_SECONDS * min(1.0, self._room / minute)
        self._request = request
        self._offset = float(request.options.get("start_ts", 0.0))  # seconds
        self._ring = Ring(self._frame)
        self._acknowledgements: list[tuple[int, float]] = []  # position and time; one entry a second
        self._base = 0
        self.sent = self.acknowledged = self.settled = 0
        self._sent_before = self._acknowledged_before = 0  # on any connection
        self.key: str | None = None
        self.finals = 0  # of the service's stream
        self.lost = 0  # bytes that no final will cover, and that could not be sent again

    @property
    def can_restart(self) -> bool:
        """Whether a new stream can begin where the finals end."""
        return self._rate is not None

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return self._ring.end - self._ring.start

    @property
    def is_sent_again(self) -> bool:
        """Whether the next piece was sent before, on another connection."""
        return self.sent < self._sent_before

    @property
    def unacknowledged(self) -> int:
        """Bytes that were sent and not yet acknowledged."""
        return self.sent - self.acknowledged

    def seconds(self, size: int) -> float:
        """Return the duration of so many bytes; 0 if it is not known without decoding."""
        return size / self._rate if self._rate else 0.0

    def query(self, queue: Queue | None = None) -> str:
        """Return the query of the next connection, with the access token. Only a new stream sends `queue`."""
        token = encode_query({"access_token": self._request.access_token}) + "&" if self._request.access_token else ""
        if self.key is not None:
            return token + Resume(self.key, self.finals).query()
        request = self._request
        if self._base > 0:
            start_ts = self._offset + self.seconds(self._base)
            request = replace(request, options={**request.options, "start_ts": start_ts})
        return "&".join(part.query() for part in (request, Resume(), queue) if part is not None)

    def restart(self) -> None:
        """Make the next connection begin a new stream, at the first audio that is kept and not settled."""
        base = max(self.settled, self._ring.start)
        self.lost += base - self.settled  # evicted here, and the service no longer has it
        self._base = self.sent = self.acknowledged = self.settled = base
        self._acknowledgements.clear()
        self.key, self.finals = None, 0

    def greeted(self, greeting: Greeting, now: float) -> bool:
        """Continue at the position that the service reports. Returns whether it has audio that it never acknowledged.

        Raises ValueError for a position outside the buffer.
        """
        position = self._base + greeting.position
        if not self._ring.start <= position <= self._ring.end:
            raise ValueError("a position outside the audio that was sent")
        self.key, self.sent = greeting.key, position
        return self.acknowledge(greeting.position, now)

    def append(self, audio: bytes) -> None:
        self._ring.append(audio)

    def next_piece(self) -> bytes:
        """Return the next audio to send; empty if everything was sent."""
        if self.sent >= self._ring.end:
            return b""
        piece = self._ring.read(self.sent)[:PIECE]
        self.sent += len(piece)
        self._sent_before = max(self._sent_before, self.sent)
        return piece

    def acknowledge(self, position: int, now: float) -> bool:
        """Note that the service has received its stream up to a position. Returns whether this is new audio to it."""
        acknowledged = min(self._base + position, self.sent)
        if acknowledged <= self.acknowledged:
            return False
        self.acknowledged = acknowledged
        if self._acknowledgements and now - self._acknowledgements[-1][1] < 1.0:
            self._acknowledgements[-1] = acknowledged, self._acknowledgements[-1][1]
        else:
            self._acknowledgements.append((acknowledged, now))
        self._release()
        is_new = acknowledged > self._acknowledged_before
        self._acknowledged_before = max(self._acknowledged_before, acknowledged)
        return is_new

    def settle(self, final: Final) -> None:
        """Note a final: it covers the audio before its `end_ts`."""
        self.finals += 1
        if self._rate:
            end = max(0.0, min((final.end_ts - self._offset) * self._rate, self.sent))  # the product may be infinite
            self.settled = max(self.settled, min(round(end / self._frame), self.sent // self._frame) * self._frame)
            self._release()

    def make_room(self, now: float) -> float:
        """Evict what may be evicted, if the buffer is full.

        Returns 0 if there is room, or else the seconds until more may be evicted; settled or acknowledged audio may
        make room earlier.
        """
        while (excess := self.held - self._room) >= 0:
            if not (self._acknowledgements and self.can_restart):
                return math.inf
            position, at = self._acknowledgements[0]
            if now < at + self._hold:
                return at + self._hold - now
            self._ring.release(min(position, self._ring.start + excess + PIECE))
            self._forget_acknowledgements()
        return 0.0

    def _release(self) -> None:
        self._ring.release(min(self.acknowledged, self.settled) if self.can_restart else self.acknowledged)
        self._forget_acknowledgements()

    def _forget_acknowledgements(self) -> None:
        """Drop the acknowledgements of audio that is no longer kept, to the last whole frame."""
        while self._acknowledgements and self._acknowledgements[0][0] < self._ring.start + self._frame:
            del self._acknowledgements[0]
