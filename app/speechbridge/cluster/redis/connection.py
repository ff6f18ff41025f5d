"""The connection to Redis. The only import of redis.

Each call is one attempt of at most PATIENCE seconds: a stream must not wait longer because Redis does. A call that
timed out may still be carried out, once Redis goes on; so every call of ours may be carried out twice, or late.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from socket import gaierror
from ssl import SSLError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import NEVER_DECODE
from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import TimeoutError as TookTooLong

from speechbridge.backoff import Backoff
from speechbridge.cluster import Away

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from redis.commands.core import AsyncScript

PATIENCE = 2.0  # seconds. On one machine a call takes 0.2 ms; a Redis that takes this long stands still
BACKOFF = Backoff(0.1, 2.0)  # seconds, between two tries to subscribe
CANCEL_AGAIN = 0.5  # seconds
CALLS = 64  # at once, on a connection each; more wait. Calls are batched; a guess at how many there are in a crowd
REASONS: dict[type[Exception], str] = {
    AuthenticationError: "does not accept the password",
    OutOfMemoryError: "has no memory left",
    gaierror: "cannot be reached (there is no such host)",
}


class Redis:
    """One Redis, for the time of `running`. `prefix` is of all keys and channels."""

    def __init__(self, url: str, prefix: str) -> None:
        """Raise ValueError for a URL that is of no use. Its text does not show the URL: there is a password in it."""
        self.prefix = prefix
        self.shown = _shown(url)
        try:
            self._client = Client.from_url(
                url,
                socket_timeout=PATIENCE,
                socket_connect_timeout=PATIENCE,
                retry=Retry(NoBackoff(), 1, (Lost,)),  # a connection of the pool may have ended while nobody used it
                max_connections=CALLS + 1,  # and one that listens
                decode_responses=True,
                client_name="speechbridge",
            )
        except (ValueError, TypeError):  # TypeError: of a parameter in its query
            raise ValueError("write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path") from None
        self._calls = asyncio.Semaphore(CALLS)
        self._listeners: dict[str, list[Callable[[str], object]]] = {}
        self._subscribed = asyncio.Event()

    def key(self, name: str) -> str:
        """Return the name of a key, or of a channel. All are in one slot of a Redis cluster: scripts need that."""
        return f"{{{self.prefix}}}:{name}"

    def script(self, path: Path) -> AsyncScript:
        """Return a script, for `run`."""
        return self._client.register_script(path.read_text())

    async def run(self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[str | float | bytes]) -> Any:
        """Run a script, all of it at one moment. Raises Away, within PATIENCE."""
        with self._reached():
            async with asyncio.timeout(PATIENCE), self._calls:  # connecting anew, and trying again, included
                return await script(keys=keys, args=arguments)

    async def read(self, key: str) -> list[bytes]:
        """Return what is in a list, undecoded. Raises Away, within PATIENCE."""
        with self._reached():
            async with asyncio.timeout(PATIENCE), self._calls:
                command: Any = self._client.execute_command  # its own types are none
                return list(await command("LRANGE", key, 0, -1, **{NEVER_DECODE: True}))

    def _reached(self) -> _Reached:
        return _Reached(self.shown)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be connected for as long as the context lasts. Raises Away if Redis cannot be reached at its begin."""
        listening = asyncio.create_task(self._listen(), name="redis-listener")
        try:
            with self._reached():
                await self._client.ping()
            yield
        finally:
            while not listening.done():  # redis loses a cancellation that comes while it connects
                listening.cancel()
                await asyncio.wait({listening}, timeout=CANCEL_AGAIN)
            with suppress(RedisError, OSError):
                await self._client.aclose()

    def listen(self, channel: str, heard: Callable[[str], object]) -> None:
        """Have `heard` called with each message of a channel, from the begin of `running` on.

        Messages may be lost while Redis is away: ask again now and then.
        """
        self._listeners.setdefault(channel, []).append(heard)

    async def _listen(self) -> None:
        failures = 0
        while self._listeners:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(*self._listeners)
                    failures = 0
                    async for message in subscription.listen():
                        for heard in self._listeners[message["channel"]]:
                            heard(message["data"])
            except (RedisError, OSError):
                failures += 1
                await asyncio.sleep(BACKOFF.pause(failures))


class _Reached:
    """Turns the errors of redis into `Away`, and cancels a task whose cancellation redis has lost.

    It sends within `asyncio.wait_for`, which loses one that comes as the sending is done (Python 3.11). Whoever cancels
    a task that makes one call after the other would wait for its end for ever.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._cancelled = 0  # how often the task had been cancelled before

    def __enter__(self) -> None:
        self._cancelled = _cancelled()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if _cancelled() > self._cancelled and not isinstance(error, asyncio.CancelledError):
            raise asyncio.CancelledError
        if isinstance(error, RedisError | OSError):
            raise Away(f"Redis at {self._shown} {_why(error)}") from None


def _cancelled() -> int:
    """Return how many cancellations of this task have not been dealt with."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _why(error: Exception) -> str:
    """Say what is wrong, without redis' own text: it may show the URL. The error below the first one is more exact."""
    cause = error.__context__ if isinstance(error.__context__, Exception) else error
    for kind, text in REASONS.items():
        if isinstance(cause, kind) or isinstance(error, kind):
            return text
    if isinstance(cause, SSLError):
        return f"cannot be reached (TLS failed: {cause.reason})"
    if isinstance(error, TimeoutError | TookTooLong):
        return "does not answer"
    if isinstance(cause, OSError) and cause.errno:
        return f"cannot be reached ({os.strerror(cause.errno)})"
    return f"cannot be used ({type(error).__name__})"


def _shown(url: str) -> str:
    """Return where a Redis is, without its password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return "this address"
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{port}"
