"""The audio that a resumable stream may have to send again, and what both sides have of it. Pure.

Positions are bytes since the beginning of the audio. Three of them grow: up to `sent` the audio went to the service on
this connection; up to `acknowledged` the service has it; up to `settled` finals cover it. Audio is kept until it is
settled, because only then no restart of the service can lose it. The service's own stream begins at `base`: at 0, or,
when it had to begin a new one, where the finals of the one before ended.

Silence is never settled, so something must give when the buffer is full: audio that the service acknowledged
`HOLD_SECONDS` ago (less in a smaller buffer) is evicted then. It is lost only if the service forgets the stream after
that; `lost` counts it.

Audio in a container, or of samples that are not S16LE, cannot begin in its middle. Such a stream cannot be begun anew:
it keeps audio until the service has acknowledged it.
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

ROOM = 2**21  # bytes kept at least: a minute of 16 kHz mono, for which a service keeps the stream
ROOM_SECONDS = 65.0  # the same of other formats
HOLD_SECONDS = 30.0  # in which a service's recognizer has answered what it is going to answer
PIECE = 3200  # bytes in one message: 100 ms of 16 kHz mono. Small messages get through a network that breaks often


class Replay:
    """One stream's audio. `room` is how many bytes are kept at most; None: a minute of the request's format."""

    def __init__(self, request: StreamRequest, room: int | None = None) -> None:
        kind = request.content_type
        self._frame = kind.frame or 1
        self._rate = kind.byte_rate if kind.frame else None  # bytes a second; None: it cannot begin in its middle
        minute = max(ROOM, int(ROOM_SECONDS * (self._rate or 0)))
        self._room = room or minute
        # Live audio fills the buffer in the time that it holds: a small one must not wait for longer.
        self._hold = HOLD_SECONDS * min(1.0, self._room / minute)
        self._request = request
        self._offset = float(request.options.get("start_ts", 0.0))  # seconds
        self._ring = Ring(self._frame)
        self._acknowledgements: list[tuple[int, float]] = []  # position and time, to the second
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
        """Whether what is to be sent next was sent before."""
        return self.sent < self._sent_before

    @property
    def unacknowledged(self) -> int:
        """Bytes that were sent, and that the service has not acknowledged."""
        return self.sent - self.acknowledged

    def seconds(self, size: int) -> float:
        """Return the duration of so many bytes; 0 if only decoding would tell."""
        return size / self._rate if self._rate else 0.0

    def query(self, queue: Queue | None = None) -> str:
        """Return the URL's query for the next connection, the access token included. New streams wait in `queue`."""
        token = encode_query({"access_token": self._request.access_token}) + "&" if self._request.access_token else ""
        if self.key is not None:
            return token + Resume(self.key, self.finals).query()
        request = self._request
        if self._base > 0:
            start_ts = self._offset + self.seconds(self._base)
            request = replace(request, options={**request.options, "start_ts": start_ts})
        return "&".join(part.query() for part in (request, Resume(), queue) if part is not None)

    def restart(self) -> None:
        """Have the next connection begin a new stream, from the first audio that is kept and not settled."""
        base = max(self.settled, self._ring.start)
        self.lost += base - self.settled  # it was evicted, and the service that had it is gone
        self._base = self.sent = self.acknowledged = self.settled = base
        self._acknowledgements.clear()
        self.key, self.finals = None, 0

    def greeted(self, greeting: Greeting, now: float) -> bool:
        """Continue where the service stands. Returns whether it has more audio than it ever acknowledged.

        Raises ValueError for a position that is not possible.
        """
        position = self._base + greeting.position
        if not self._ring.start <= position <= self._ring.end:
            raise ValueError("a position outside the audio that was sent")
        self.key, self.sent = greeting.key, position
        return self.acknowledge(greeting.position, now)

    def append(self, audio: bytes) -> None:
        self._ring.append(audio)

    def next_piece(self) -> bytes:
        """Return what is to be sent next; empty if everything was sent."""
        if self.sent >= self._ring.end:
            return b""
        piece = self._ring.read(self.sent)[:PIECE]
        self.sent += len(piece)
        self._sent_before = max(self._sent_before, self.sent)
        return piece

    def acknowledge(self, position: int, now: float) -> bool:
        """Note that the service has the audio up to a position of its stream. Returns whether it never had so much."""
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

        Returns 0 if there is room, or else for how many seconds there will be none unless audio is settled or
        acknowledged.
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
        """Drop those of audio that is not kept any more, to the last whole frame."""
        while self._acknowledgements and self._acknowledgements[0][0] < self._ring.start + self._frame:
            del self._acknowledgements[0]
