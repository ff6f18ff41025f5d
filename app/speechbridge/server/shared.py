"""The interface to what the processes of one service share: admission, the number of streams, readiness and metrics.

A single process implements it by itself (`Alone`). If there are several workers, each asks its parent (`workers.link`).
With Redis, both count over all replicas, on any machines (`replica`).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from speechbridge.server.replica import replica_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from speechbridge.protocol.close import Close
    from speechbridge.protocol.openai import Settings as OpenAiSettings
    from speechbridge.server.admission import Admission, Handshake
    from speechbridge.server.client_secrets import ClientSecret
    from speechbridge.server.metrics import Metrics
    from speechbridge.server.replica import Replica
    from speechbridge.server.session import Sessions
    from speechbridge.settings import Settings

SCRAPE_SECONDS = 0.1  # for which a text of the metrics is reused: writing one takes 3 ms, and anybody may request it


class Lease(Protocol):
    """The right to one connection: see `limits.Lease`."""

    @property
    def owner(self) -> str: ...

    @property
    def is_metered(self) -> bool: ...

    def count(self, size: int, messages: int, now: float) -> Close | None: ...

    def pause(self, size: int, now: float) -> float: ...

    def take_places(self) -> None: ...

    def held(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a new stream would be served, and by how many workers."""

    slots: int
    slots_free: int
    upstream: str  # what is wrong with the speech service; "" if nothing
    is_draining: bool
    workers: int = 1  # that are running
    of_workers: int = 1


class Shared(Protocol):
    """What the processes of one service share."""

    def running(self) -> AbstractAsyncContextManager[object]:
        """Share within the context. Raises Unavailable if the shared store cannot be reached at the beginning."""

    async def admit(self, handshake: Handshake) -> Lease:
        """Check a handshake; return a lease, which the caller must hold at once, without an await. Raises Refused.

        Cancellation: no lease is left behind.
        """

    async def make_secret(self, owner: str, seconds: int, settings: OpenAiSettings) -> tuple[str, ClientSecret]:
        """Make a client secret: see `client_secrets.ClientSecrets`. Raises Refused."""

    async def find_secret(self, value: str) -> ClientSecret | None:
        """Return the client secret of a value; None if there is none, or it has expired."""

    def slot(self) -> AbstractAsyncContextManager[None]:
        """Take the place of one stream within the context. Entering raises Overloaded if all are in use.

        Cancellation: no place is left behind.
        """

    def read(self, sessions: Sessions, metrics: Metrics, trouble: Callable[[], str | None]) -> None:
        """Use these for readiness and metrics from now on. `trouble` returns what is wrong with the speech service."""

    async def readiness(self) -> Readiness: ...

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""


class Worker(Shared, Protocol):
    """What a worker shares, besides that. The keys of its resumable streams begin with `prefix`."""

    prefix: str

    def recognizer(self) -> str:
        """Return the URL of the embedded recognizer. Raises UpstreamClosed while there is none."""


class Alone:
    """A single process. Its thread pool limits its own streams; with Redis, `replica` counts those of others, too."""

    def __init__(self, admission: Admission, settings: Settings) -> None:
        self._admission = admission
        self._settings = settings
        self._replica: Replica | None = None
        self._sessions: Sessions
        self._metrics: Metrics
        self._trouble: Callable[[], str | None]
        self._scraped, self._scraped_at = b"", -SCRAPE_SECONDS

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with replica_of(self._admission, self._settings) as self._replica:
            yield

    def read(self, sessions: Sessions, metrics: Metrics, trouble: Callable[[], str | None]) -> None:
        self._sessions, self._metrics, self._trouble = sessions, metrics, trouble

    async def admit(self, handshake: Handshake) -> Lease:
        return self._admission.admit(handshake) if self._replica is None else await self._replica.admit(handshake)

    async def make_secret(self, owner: str, seconds: int, settings: OpenAiSettings) -> tuple[str, ClientSecret]:
        return self._admission.secrets.make(owner, seconds, settings)

    async def find_secret(self, value: str) -> ClientSecret | None:
        return self._admission.secrets.find(value)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        replica = self._replica
        if replica is None:
            yield
            return
        await replica.take_stream()
        try:
            yield
        finally:
            replica.free_streams()

    async def readiness(self) -> Readiness:
        pool = self._sessions.pool
        return Readiness(pool.total, pool.total - pool.active, self._trouble() or "", self._sessions.draining)

    async def metrics(self) -> bytes:
        now = asyncio.get_running_loop().time()
        if now - self._scraped_at >= SCRAPE_SECONDS:
            self._scraped, self._scraped_at = self._metrics.text(), now
        return self._scraped
