"""Selects the implementation of the cluster's interfaces that a process uses, by its settings."""

from __future__ import annotations

import math
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.cluster import Terms
from speechbridge.cluster.memory import MemoryLeases, MemoryShares, NoJournal
from speechbridge.settings import WrongSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from speechbridge.cluster import Journal, Leases, Shares, Use
    from speechbridge.cluster.redis.connection import Redis
    from speechbridge.settings import ClusterSettings, Settings


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a process shares with others. `leases` is None if the account's streams are not limited.

    `running` is an async context manager for the time that the process serves; it raises Unavailable.
    """

    leases: Leases | None
    shares: Shares
    journal: Journal
    running: Callable[[], AbstractAsyncContextManager[None]]


def join(settings: ClusterSettings, resume_seconds: float) -> Cluster:
    """Share with all processes that use the same Redis, or without Redis with none. Raises WrongSetting.

    `resume_seconds` is how long a client of a resumable stream may be away.
    """
    url = settings.redis_url.get_secret_value()
    if not url:
        # A single process's leases end with it, so none has to expire.
        terms = Terms(settings.account_streams, lease_seconds=math.inf)
        leases = MemoryLeases(terms) if settings.account_streams else None
        return Cluster(leases, MemoryShares(settings.share_seconds), NoJournal(), nullcontext)
    return _joined(url, settings, resume_seconds)


def _joined(url: str, settings: ClusterSettings, resume_seconds: float) -> Cluster:
    from speechbridge.cluster.redis.journal import RedisJournal  # noqa: PLC0415 # it takes 60 ms to import
    from speechbridge.cluster.redis.leases import RedisLeases  # noqa: PLC0415 # likewise
    from speechbridge.cluster.redis.shares import RedisShares  # noqa: PLC0415 # likewise

    redis = _redis(url, settings)
    leases = RedisLeases(redis, Terms(settings.account_streams)) if settings.account_streams else None
    shares = RedisShares(redis, settings.share_seconds)
    journal = RedisJournal(redis, resume_seconds)

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async with redis.running(), journal.running():
            try:
                yield
            finally:
                await shares.end()

    return Cluster(leases, shares, journal, running)


def _redis(url: str, settings: ClusterSettings) -> Redis:
    from speechbridge.cluster.redis.connection import Redis  # noqa: PLC0415 # it takes 60 ms to import

    try:
        return Redis(url, settings.redis_prefix)
    except ValueError as error:
        raise WrongSetting(f"SPEECHBRIDGE_REDIS_URL: {error}") from None


@asynccontextmanager
async def sharing_limits(settings: Settings) -> AsyncIterator[Use | None]:
    """Yield what counts use over all replicas, within the context; None without Redis.

    Raises Unavailable and WrongSetting.
    """
    url = settings.redis_url.get_secret_value()
    if not url:
        yield None
        return

    from speechbridge.cluster.redis.limits import RedisUse  # noqa: PLC0415 # it takes 60 ms to import

    redis = _redis(url, settings)
    async with redis.running():
        yield RedisUse(redis, settings.handshakes_per_minute)
