"""The leases of one account, shared in Redis by many processes. `leases.lua` decides; this file only calls it.

A Redis that has lost its data gets it again from the holders of leases and from waiting clients: see `leases.lua`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.cluster import FULL, HELD, NOT_KNOWN, TAKEN_OVER, Answer, Standing
from speechbridge.cluster.waits import REMEMBERED, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from speechbridge.cluster import Claim, Terms
    from speechbridge.cluster.redis.connection import Redis

SCRIPT = Path(__file__).with_name("leases.lua")
KEYS = ("leases", "begun", "queue", "tickets", "owners", "arrivals", "lasted", "epoch")
STANDINGS = {  # the numbers in leases.lua; 2 is WAITING, which comes with a place
    1: HELD,
    3: FULL,
    4: TAKEN_OVER,
    5: NOT_KNOWN,
}
# In this time all holders have renewed their leases and all waiting clients have asked again: they do so every 2 s and
# every 1 s, and a call without an answer takes 2 s more.
SETTLE_SECONDS = 4.5


class RedisLeases:
    """Implements `Leases`. `clock` returns seconds; None: Redis' own clock, which is the same for all processes."""

    def __init__(self, redis: Redis, terms: Terms, clock: Callable[[], float] | None = None) -> None:
        self.terms = terms
        self._redis = redis
        self._clock = clock
        self._keys = [redis.key(name) for name in KEYS]
        self._script = redis.script(SCRIPT)
        self._has_called = False
        self._change = asyncio.Event()
        redis.listen(self._keys[0], self._notify)

    async def _call(self, name: str, *arguments: str) -> Any:
        now = "" if self._clock is None else round(self._clock() * 1000)
        terms = self.terms
        in_ms = [round(seconds * 1000) for seconds in (terms.lease_seconds, terms.ticket_seconds, SETTLE_SECONDS)]
        about = (terms.leases, *in_ms[:2], REMEMBERED, in_ms[2], int(self._has_called))
        answer = await self._redis.run(self._script, self._keys, [name, now, *about, *arguments])
        self._has_called = True
        return answer

    async def ask(self, claims: Sequence[Claim]) -> list[Answer]:
        parts = [(claim.holder, claim.ticket or "", str(int(claim.joins)), claim.turn) for claim in claims]
        standings, places, turns, ages, lasted = await self._call("ask", *(part for one in parts for part in one))
        in_seconds = [[int(value) / 1000 for value in values] for values in (ages, lasted)]
        guesses = waits(max(places, default=0), self.terms.leases, *in_seconds)
        return [
            STANDINGS.get(standing) or Answer(Standing.WAITING, place, guesses[place - 1] if place else 0.0, turn)
            for standing, place, turn in zip(standings, places, turns, strict=True)
        ]

    async def renew(self, holders: Sequence[str]) -> set[str]:
        return set(await self._call("renew", *holders))

    async def release(self, holder: str) -> None:
        await self._call("release", holder)

    async def leave(self, claim: Claim) -> None:
        if claim.ticket is not None:
            await self._call("leave", claim.holder, claim.ticket)

    async def changed(self) -> None:
        await self._change.wait()

    def _notify(self, _message: str) -> None:
        self._change.set()
        self._change = asyncio.Event()
