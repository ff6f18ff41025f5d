"""Limits of bytes and messages a second over several replicas of a service.

Traffic is counted frame by frame, and a call to Redis costs more than a frame. So each replica counts its own traffic
in memory, and the replicas exchange their counts once a second. A call at the beginning of second S does this:

    it reports      what this replica received in S-1
    it reads        what all replicas received in S-2, S-3 and S-4. By now each of them has reported these seconds
    it returns      what the others received in S-2, if the total of each of the three exceeds the limit

The replica then counts what the others received as if it had come in here, in S. So the ordinary check of the next
frames in S exceeds the limit, and the connection is closed, or an upload slowed down, as in a single process.

Why three seconds in a row. Replicas number seconds by the wall clock, and the clocks of two machines differ. If a
stream moves to a machine whose clock is behind by half a second, half a second of it is counted too much, under one
number or spread over two. So the total of a stream within the limit may exceed it in two seconds in a row. But it does
not in three, if the clocks differ by less than a second.

Why the wall clock is read once, when the replica starts (`OwnTraffic.align`). From then on seconds are counted by the
machine's monotonic clock, which never jumps, so no second is longer than a second. If the wall clock jumps, seconds get
other numbers, but begin at the same moments as before.

What follows. Clients that together exceed a limit, each at another replica, are closed within 6 s: three seconds above
the limit, one until the last of them is known everywhere, and parts of a second before and after. A burst of two
seconds has no consequence. Uploads are slowed down, which ends the proof: the same clients may exceed the limit again,
in four of six seconds at most. While Redis does not answer, each replica's own counts decide alone, and nothing waits.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from speechbridge.cluster import Traffic, Unavailable
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from speechbridge.cluster import Use
    from speechbridge.settings import LimitSettings

MARGIN = 0.02  # seconds after the beginning of a second: a timer may be early by the clock's resolution
BATCH = 128  # names in one call: 1.5 ms of Redis' time, with three replicas


class OwnTraffic(Protocol):
    """This replica's traffic, as `limits.Limits` counts it, or `workers.rates.Rows` for all workers."""

    def align(self, offset: float) -> None:
        """Add `offset` to the machine's monotonic clock, before anything is counted. The sum is the clock below."""

    def received(self, second: int) -> dict[str, Traffic]:
        """Return what was received in a second, by name: of each name that has had traffic in the last seconds.

        `second` is the current second or the one before.
        """

    def add_others(self, second: int, others: Mapping[str, Traffic]) -> None:
        """Count what other replicas have received as if it had been received here, in this second."""


@asynccontextmanager
async def exchanging(own: OwnTraffic, use: Use, limits: LimitSettings) -> AsyncIterator[None]:
    """Exchange counts with the other replicas within the context, if bytes or messages are limited."""
    most = Traffic(limits.bytes_per_second, limits.messages_per_second)
    if not any(most):
        yield
        return
    exchange = Exchange(own, use, most, asyncio.get_running_loop().time, time.time)
    calling = asyncio.create_task(exchange.again_and_again(), name="traffic-exchange")
    try:
        yield
    finally:
        await cancel_and_wait(calling)


class Exchange:
    """Exchanges counts with the other replicas. All together may receive `most` in a second, under one name."""

    def __init__(
        self, own: OwnTraffic, use: Use, most: Traffic, monotonic: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._own = own
        self._use = use
        self._most = most
        self._monotonic = monotonic
        self._wall = wall
        self._offset = wall() - monotonic()
        own.align(self._offset)

    async def again_and_again(self) -> None:
        """Make the calls of each second, until this is cancelled."""
        while True:
            await asyncio.sleep(1 - self._now() % 1 + MARGIN)
            with suppress(Unavailable):  # `Replica` logs it, which calls Redis, too
                await self.once()

    async def once(self) -> None:
        """Make the calls of this second. Raises Unavailable.

        The names with the most traffic come first. Those whose turn does not come within the second are left out.

        Cancellation: the call may have taken effect, or not.
        """
        now = self._now()
        second = int(now) - 1
        number = second + round(self._wall() - now)  # 0 is added, unless the wall clock has jumped
        received = sorted(self._own.received(second).items(), key=lambda pair: pair[1], reverse=True)
        for begin in range(0, len(received), BATCH):
            if int(self._now()) - 1 != second:
                break
            others = await self._use.exchange(number, dict(received[begin : begin + BATCH]), self._most)
            self._own.add_others(int(self._now()), others)

    def _now(self) -> float:
        return self._monotonic() + self._offset
