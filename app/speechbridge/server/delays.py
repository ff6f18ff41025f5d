"""Caption delays: from the arrival of audio at the service to the response that covers it. Pure, except for the clock.

A response covers the audio up to its `end_ts`. Its delay counts from the time when that much audio had arrived. A
partial that covers no more audio than an earlier one has no delay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.protocol.request import StreamRequest

Kind = Literal["partial", "final"]
KINDS: tuple[Kind, ...] = get_args(Kind)

STEP = 0.05  # seconds: arrivals closer to each other count as one
MOST = 1200  # arrivals that are remembered: at least a minute


@dataclass(slots=True)
class Mean:
    """The mean of some delays, in seconds."""

    total: float = 0.0
    count: int = 0

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None

    def add(self, delay: float) -> None:
        self.total += delay
        self.count += 1


class Delays:
    """The delays of one stream's captions. `observe` is called with each one."""

    @classmethod
    def of(cls, request: StreamRequest, observe: Callable[[Kind, float], object]) -> Delays | None:
        """Return a stream's delays; None if its audio's duration is not known from the number of bytes.

        Call it on the event loop.
        """
        rate, start_ts = request.content_type.byte_rate, float(request.options.get("start_ts", 0.0))
        return cls(rate, start_ts, clock=asyncio.get_running_loop().time, observe=observe) if rate else None

    def __init__(
        self,
        byte_rate: int,
        start_ts: float = 0.0,
        *,
        clock: Callable[[], float],
        observe: Callable[[Kind, float], object] = lambda _kind, _delay: None,
    ) -> None:
        """Take the audio's bytes a second, and the time that responses give to its first byte."""
        self.means: dict[Kind, Mean] = {kind: Mean() for kind in KINDS}
        self._byte_rate = byte_rate
        self._start_ts = start_ts
        self._clock = clock
        self._observe = observe
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=MOST)  # bytes so far, time of arrival
        self._next_arrival = 0.0  # an arrival before this time replaces the latest one
        self._covered: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)  # seconds of audio

    def received(self, received: int) -> None:
        """Note the number of bytes that have arrived so far."""
        now = self._clock()
        if now >= self._next_arrival or not self._arrivals:
            self._arrivals.append((received, now))
            self._next_arrival = now + STEP
        else:
            self._arrivals[-1] = received, now

    def answered(self, kind: Kind, end_ts: float) -> None:
        """Note a response that covers the audio up to `end_ts`, in seconds of the stream."""
        covered = end_ts - self._start_ts
        if covered <= self._covered[kind]:
            return
        self._covered[kind] = covered
        received = covered * self._byte_rate
        arrived = next((at for end, at in self._arrivals if end >= received), None)
        if arrived is not None:
            delay = max(0.0, self._clock() - arrived)
            self.means[kind].add(delay)
            self._observe(kind, delay)
        while kind == "final" and self._arrivals and self._arrivals[0][0] < received:
            self._arrivals.popleft()
