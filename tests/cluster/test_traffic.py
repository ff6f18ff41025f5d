"""Limits of bytes and messages a second hold over all replicas, and close no client that keeps within them."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import Traffic, Unavailable
from speechbridge.cluster.redis.connection import PATIENCE as REDIS_PATIENCE
from speechbridge.cluster.redis.connection import Redis
from speechbridge.cluster.redis.limits import TRAFFIC_SECONDS, RedisUse
from speechbridge.protocol.close import CloseCode
from speechbridge.server.admission import Admission, Handshake, make_key
from speechbridge.server.traffic import MARGIN, Exchange
from speechbridge.server.workers.rates import Metered, Rates, Rows
from speechbridge.settings import Settings
from tests.cluster.conftest import Clock, Shared
from tests.helpers.puppet import PATIENCE
from tests.helpers.redis import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from speechbridge.protocol.close import Close
    from speechbridge.server.limits import Lease
    from tests.helpers.redis import RedisServer

BEGIN = 1_800_000_000.0  # by the wall clock
MOST = 100  # bytes a second
TOO_MANY_BYTES = CloseCode.TOO_MANY_BYTES


class Place:
    """A replica, and the client at it, with a connection to each worker.

    `skew` is how many seconds its wall clock is ahead of the others'.
    """

    def __init__(self, clock: Clock, use: RedisUse, settings: Settings, *, skew: float = 0.0, workers: int = 0) -> None:
        self.booted = random.Random(f"{skew} {workers}").uniform(0, 1e6)  # where its monotonic clock began
        self.jump = 0.0  # of its wall clock, since it started
        self._clock = clock
        self._skew = skew
        key, line = make_key("alice")
        read = settings.model_copy(update={"api_keys": type(settings.api_keys)(line)})
        admission = Admission(read)
        self.rates = Rates.make(4, workers) if workers else None
        rows = Rows(self.rates) if self.rates else None
        most = Traffic(read.bytes_per_second, read.messages_per_second)
        self.exchange = Exchange(rows or admission.limits, use, most, self.now, self._wall)
        self._leases: list[Lease | Metered]
        if rows is None or self.rates is None:
            self._leases = [admission.admit(Handshake(key=key))]
        else:
            (row,) = rows.take(["key alice"]) or [0]
            self._leases = [Metered(self.rates, column, [("key", row)], read) for column in range(workers)]

    def now(self) -> float:
        return self._clock() - self.booted

    def _wall(self) -> float:
        return self._clock() + self._skew + self.jump

    def sends(self, size: int, messages: int = 1) -> Close | None:
        """Send from the client, on each connection in turn; return the close frame that it gets."""
        self._leases.append(self._leases.pop(0))
        return self._leases[0].count(size, messages, self.now())


class Places:
    """Replicas of one service, and the time, in seconds since `BEGIN`."""

    def __init__(self, clock: Clock, places: list[Place]) -> None:
        self.clock = clock
        self.places = places

    async def passes(self, second: int, *sizes: int) -> list[CloseCode | None]:
        """Let a second pass, in which each client sends so many bytes, in ten messages; return how each was closed."""
        closes: list[CloseCode | None] = [None] * len(sizes)
        self.clock.now = BEGIN + second + MARGIN
        for place in self.places:
            await place.exchange.once()
        for tenth in range(10):
            self.clock.now = BEGIN + second + MARGIN + tenth * 0.09
            for index, size in enumerate(sizes):
                close = self.places[index].sends(size // 10) if size else None
                if close is not None:
                    closes[index] = CloseCode(close.code)
        return closes


@asynccontextmanager
async def replicas(
    server: RedisServer, *workers: int, skews: tuple[float, ...] = (), **settings: object
) -> AsyncIterator[Places]:
    """Make replicas with so many workers each; 0: a single process."""
    read = Settings.read(**{"bytes_per_second": MOST, "handshakes_per_minute": 0, **settings})
    redis, clock = Redis(server.url, f"traffic-{random.random()}"), Clock(BEGIN)
    skews = skews or (0.0,) * len(workers)
    async with redis.running(), AsyncExitStack() as stack:
        places = []
        for number, skew in zip(workers, skews, strict=True):
            place = Place(clock, RedisUse(redis, 0), read, skew=skew, workers=number)
            if place.rates is not None:
                stack.callback(place.rates.close)
            places.append(place)
        yield Places(clock, places)


@pytest.mark.parametrize("workers", [(0, 0), (2, 2), (0, 2), (0, 0, 3)])
async def test_clients_that_exceed_a_limit_together_are_closed_within_six_seconds(
    server: RedisServer, workers: tuple[int, ...]
) -> None:
    sizes = [120 // len(workers)] * len(workers)
    async with replicas(server, *workers) as found:
        for second in range(4):
            assert await found.passes(second, *sizes) == [None] * len(workers), second
        assert await found.passes(4, *sizes) == [TOO_MANY_BYTES] * len(workers)


async def test_messages_are_limited_over_replicas_like_bytes(server: RedisServer) -> None:
    async with replicas(server, 0, 2, bytes_per_second=0, messages_per_second=19) as found:
        for second in range(4):
            assert await found.passes(second, 10, 10) == [None, None]
        assert await found.passes(4, 10, 10) == [CloseCode.TOO_MANY_MESSAGES] * 2


@pytest.mark.parametrize("workers", [(0, 0), (2, 2)])
async def test_clients_that_keep_within_a_limit_together_are_not_closed(
    server: RedisServer, workers: tuple[int, ...]
) -> None:
    async with replicas(server, *workers) as found:
        for second in range(12):
            assert await found.passes(second, MOST // 2, MOST // 2) == [None, None], second


@pytest.mark.parametrize("seconds", [1, 2])
async def test_one_second_or_two_above_the_limit_are_no_proof(server: RedisServer, seconds: int) -> None:
    async with replicas(server, 0, 2) as found:
        for second in range(12):
            size = MOST if second % (seconds + 1) else 0
            assert await found.passes(second, size, size) == [None, None], second


async def test_clients_that_send_less_from_now_on_are_left_alone_two_seconds_later(server: RedisServer) -> None:
    async with replicas(server, 0, 0) as found:
        for second in range(4):
            await found.passes(second, 60, 60)
        for second in (4, 5):
            assert await found.passes(second, 30, 30) == [None, None], second
        for second in range(6, 12):
            assert await found.passes(second, 50, 50) == [None, None], second


async def test_one_that_sends_in_every_other_second_counts_towards_the_total(server: RedisServer) -> None:
    """Each pair sends more than the limit, and each of the four had nothing to report of the second before."""
    async with replicas(server, 0, 0, 0, 0) as found:
        closed = set()
        for second in range(7):
            sizes = (60, 60, 0, 0) if second % 2 else (0, 0, 60, 60)
            closed |= {index for index, code in enumerate(await found.passes(second, *sizes)) if code}
        assert closed == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(6))
async def test_a_stream_at_the_limit_that_moves_is_not_closed_whatever_the_clocks(
    server: RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    skews = (0.0, chance.uniform(0.1, 0.95), chance.choice([0.0, 0.5, 0.9]))
    async with replicas(server, 0, 2, 0, skews=skews, bytes_per_second=102) as found:  # 50 or 51 messages of 2 bytes
        at, moves_at = 0, chance.uniform(2, 6)
        calls_at = [1 - skew + MARGIN for skew in skews]  # each at the beginning of its own second
        for tick in range(2000):
            seconds = tick / 50
            found.clock.now = BEGIN + seconds
            for index, place in enumerate(found.places):
                if seconds >= calls_at[index]:
                    calls_at[index] += 1
                    await place.exchange.once()
            if seconds >= moves_at:
                at, moves_at = (at + chance.choice([1, 2])) % 3, seconds + chance.uniform(4, 8)
            assert found.places[at].sends(2) is None, (seconds, skews)


async def test_a_wall_clock_that_jumps_stops_nothing_and_closes_nobody(server: RedisServer) -> None:
    """As on a machine that set its clock after the service had started."""
    async with replicas(server, 0, 2, skews=(0.0, -3600.0)) as found:
        for second in range(5):
            assert await found.passes(second, 60, 60) == [None, None], "they cannot know of each other"
        found.places[1].jump = 3600.3
        for second in range(5, 8):
            assert await found.passes(second, 60, 60) == [None, None]
        assert await found.passes(8, 60, 60) == [TOO_MANY_BYTES] * 2


async def test_while_redis_does_not_answer_own_counts_decide_alone(tmp_path: Path) -> None:
    with redis_server(tmp_path) as own:
        async with replicas(own, 0, 0) as found:
            for second in range(4):
                await found.passes(second, 60, 60)
            own.process.kill()
            own.process.wait()
            found.clock.now = BEGIN + 4 + MARGIN
            for place in found.places:
                with pytest.raises(Unavailable):
                    await place.exchange.once()
                assert place.sends(MOST) is None
                close = place.sends(1)
                assert close is not None
                assert close.code == TOO_MANY_BYTES


async def test_a_replica_ends_while_redis_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = asyncio.Event()
    with redis_server(tmp_path) as own:
        async with Shared(own.url).replicas(1, bytes_per_second=MOST) as (one,):
            lease = await one.admit(Handshake(address="203.0.113.7"))
            lease.count(MOST, 1, asyncio.get_running_loop().time())
            own.freeze()
            exchange = RedisUse.exchange

            async def noted(
                self: RedisUse, second: int, received: Mapping[str, Traffic], most: Traffic
            ) -> dict[str, Traffic]:
                called.set()
                return await exchange(self, second, received, most)

            monkeypatch.setattr(RedisUse, "exchange", noted)
            async with asyncio.timeout(PATIENCE):
                await called.wait()
            begun = time.monotonic()
        # One call that cannot be cancelled (`_Guard` of the connection tells why), and the last report of its places.
        assert time.monotonic() - begun < 2 * REDIS_PATIENCE + 1
        own.thaw()


# ---- the calls -------------------------------------------------------------------------------------------------------


async def test_a_call_that_is_carried_out_twice_does_no_harm(server: RedisServer) -> None:
    redis, most = Redis(server.url, "traffic-twice"), Traffic(MOST, 0)
    one, two = RedisUse(redis, 0), RedisUse(redis, 0)
    async with redis.running():
        for second in (1, 2, 3):
            for _ in range(3):
                assert await one.exchange(second, {"key a": Traffic(50, 1)}, most) == {}
                assert await two.exchange(second, {"key a": Traffic(50, 1)}, most) == {}
        assert await one.exchange(4, {"key a": Traffic(50, 1)}, most) == {}


async def test_others_are_all_replicas_but_this_one_in_the_second_before(server: RedisServer) -> None:
    redis, most = Redis(server.url, "traffic-others"), Traffic(MOST, 0)
    uses = [RedisUse(redis, 0) for _ in range(3)]
    async with redis.running():
        for second in (1, 2, 3):
            for index, use in enumerate(uses):
                received = {"key a": Traffic(40 + index + 10 * second, 1 + index), "key b": Traffic(33, 1)}
                assert await use.exchange(second, received, most) == {}
        silent = {"key a": Traffic(), "key b": Traffic(MOST, 1)}
        assert await uses[0].exchange(4, silent, most) == {"key a": Traffic(71 + 72, 5)}
        assert await uses[1].exchange(4, silent, most) == {"key a": Traffic(70 + 72, 4)}
        assert await uses[2].exchange(5, silent, most) == {}, "in second 4 there was less"


async def test_what_is_stored_of_traffic_has_the_prefix_and_a_short_expiry(server: RedisServer) -> None:
    redis = Redis(server.url, "traffic-expiry")
    async with redis.running():
        await RedisUse(redis, 0).exchange(7, {"key a": Traffic(5, 1), "key b": Traffic()}, Traffic(MOST, 0))
        keys = [key async for key in redis._client.scan_iter("*traffic-expiry*")]
        assert keys == ["{traffic-expiry}:limits:traffic:7:key a"], "what is zero is not stored"
        assert 0 < await redis._client.pttl(keys[0]) <= 1000 * TRAFFIC_SECONDS
