"""Both implementations of the port: what holds for one holds for the other."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster.memory import MemoryLeases
from speechbridge.cluster.redis.connection import Redis
from speechbridge.cluster.redis.leases import RedisLeases
from speechbridge.server.admission import Admission
from speechbridge.server.shared import Alone
from speechbridge.settings import Settings
from tests.helpers.redis import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from speechbridge.cluster import Leases, Terms

NO_LIMITS = {"sessions_per_address": 0, "handshakes_per_minute": 0}


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@dataclass
class Shared:
    """One implementation of the port. Everything that one `Shared` makes is of one cluster."""

    url: str | None
    clock: Clock = field(default_factory=Clock)
    prefix: str = field(default_factory=lambda: secrets.token_hex(4))

    @asynccontextmanager
    async def leases(self, terms: Terms) -> AsyncIterator[Leases]:
        if self.url is None:
            yield MemoryLeases(terms, self.clock)
            return
        redis = Redis(self.url, self.prefix)
        leases = RedisLeases(redis, terms, self.clock)
        async with redis.running():
            yield leases

    @asynccontextmanager
    async def replicas(self, count: int, **settings: object) -> AsyncIterator[list[Alone]]:
        """Make so many replicas of one service; in memory it is one replica, so many times."""
        own = {} if self.url is None else {"redis_url": self.url, "redis_prefix": self.prefix}
        read = Settings.read(**{**NO_LIMITS, **settings, **own})
        found = [Alone(Admission(read), read) for _ in range(1 if self.url is None else count)]
        async with AsyncExitStack() as stack:
            for one in found:
                await stack.enter_async_context(one.running())
            yield found * (count if self.url is None else 1)


@pytest.fixture(params=["memory", "redis"])
def shared(request: pytest.FixtureRequest) -> Shared:
    return Shared(None if request.param == "memory" else request.getfixturevalue("server").url)
