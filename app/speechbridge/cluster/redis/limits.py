"""The total use of all replicas of a service, in Redis. `limits.lua` and `traffic.lua` decide; this file calls them."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.cluster import Excess, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from speechbridge.cluster import Newcomer
    from speechbridge.cluster.redis.connection import Redis

SCRIPT = Path(__file__).with_name("limits.lua")
TRAFFIC = Path(__file__).with_name("traffic.lua")
KEYS = ("replicas", "calls", "has", "rates")
ALIVE_SECONDS = 15.0  # without a call, after which a replica's counts are dropped
TRAFFIC_SECONDS = 6.0  # for which the traffic of a second is stored: it is last read four seconds after it


class RedisUse:
    """Implements `Use`. `clock` returns seconds; None: Redis' own clock, which is the same for all processes."""

    def __init__(self, redis: Redis, handshakes_per_minute: int, clock: Callable[[], float] | None = None) -> None:
        self._redis = redis
        self._rate = handshakes_per_minute
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._calls = itertools.count(1)
        self._keys = [redis.key(f"limits:{name}") for name in KEYS]
        self._script = redis.script(SCRIPT)
        self._traffic_key = redis.key("limits:traffic")
        self._traffic = redis.script(TRAFFIC)

    async def enter(self, own: Mapping[str, int], newcomers: Sequence[Newcomer]) -> list[Excess | None]:
        now = "" if self._clock is None else round(self._clock() * 1000)
        about = (now, self._name, next(self._calls), round(ALIVE_SECONDS * 1000), self._rate, len(own))
        counts = [part for pair in own.items() for part in pair]
        asked = [part for newcomer in newcomers for part in _parts(newcomer)]
        answers = await self._redis.run(self._script, self._keys, [*about, *counts, *asked])
        return [_excess(newcomer, answer) for newcomer, answer in zip(newcomers, answers, strict=True)]

    async def exchange(self, second: int, received: Mapping[str, Traffic], most: Traffic) -> dict[str, Traffic]:
        about = (self._name, second, round(TRAFFIC_SECONDS * 1000), *most)
        counts = [part for name, traffic in received.items() for part in (name, *traffic)]
        answer = await self._redis.run(self._traffic, [self._traffic_key], [*about, *counts])
        others = map(Traffic, answer[::2], answer[1::2])
        return {name: traffic for name, traffic in zip(received, others, strict=True) if any(traffic)}


def _parts(newcomer: Newcomer) -> list[str | int]:
    places = [part for place in newcomer.places for part in place]
    return [len(newcomer.handshakes), *newcomer.handshakes, len(newcomer.places), *places]


def _excess(newcomer: Newcomer, answer: Sequence[int]) -> Excess | None:
    if not answer:
        return None
    index, milliseconds, *there = answer
    names = [*newcomer.handshakes, *(name for name, _ in newcomer.places)]
    return Excess(names[index - 1], there[0] if there else 0, milliseconds / 1000)
