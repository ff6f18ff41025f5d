"""The connection to Redis. The package redis is imported here only.

Each call is one attempt of at most PATIENCE seconds, so that a stream never waits longer for Redis. Redis may still
execute a call that timed out here. So every call of ours may be executed twice, or late.
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
from speechbridge.cluster import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from redis.commands.core import AsyncScript

PATIENCE = 2.0  # seconds; a call to a Redis on the same machine takes 0.2 ms
BACKOFF = Backoff(0.1, 2.0)  # seconds between two attempts to subscribe
CANCEL_AGAIN = 0.5  # seconds between two cancellations of the listener
CALLS = 64  # at once, each on its own connection; further calls wait. A guess at how many are pending in a crowd
REASONS: dict[type[Exception], str] = {
    AuthenticationError: "does not accept the password",
    OutOfMemoryError: "has no memory left",
    gaierror: "cannot be reached (there is no such host)",
}


class Redis:
    """A client of one Redis, connected while `running` lasts. All its keys and channels begin with `prefix`."""

    def __init__(self, url: str, prefix: str) -> None:
        """Raise ValueError for an invalid URL. Its text does not show the URL, which may hold a password."""
        self.prefix = prefix
        self.shown = _shown(url)
        try:
            self._client = Client.from_url(
                url,
                socket_timeout=PATIENCE,
                socket_connect_timeout=PATIENCE,
                retry=Retry(NoBackoff(), 1, (Lost,)),  # an idle connection of the pool may have been closed
                max_connections=CALLS + 1,  # one of them is the listener's
                decode_responses=True,
                client_name="speechbridge",
            )
        except (ValueError, TypeError):  # TypeError: an unknown parameter in the URL's query
            raise ValueError("write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path") from None
        self._calls = asyncio.Semaphore(CALLS)
        self._listeners: dict[str, list[Callable[[str], object]]] = {}
        self._subscribed = asyncio.Event()

    def key(self, name: str) -> str:
        """Return the name of a key or a channel. All are in one slot of a Redis cluster, as scripts require."""
        return f"{{{self.prefix}}}:{name}"

    def script(self, path: Path) -> AsyncScript:
        """Load a script from a file, for `run`."""
        return self._client.register_script(path.read_text())

    async def run(self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[str | float | bytes]) -> Any:
        """Run a script, which Redis executes atomically. Raises Unavailable, within PATIENCE."""
        with _Guard(self.shown):
            async with asyncio.timeout(PATIENCE), self._calls:  # includes reconnecting and the retry
                return await script(keys=keys, args=arguments)

    async def read(self, key: str) -> list[bytes]:
        """Return the items of a list, undecoded. Raises Unavailable, within PATIENCE."""
        with _Guard(self.shown):
            async with asyncio.timeout(PATIENCE), self._calls:
                command: Any = self._client.execute_command  # it is not typed
                return list(await command("LRANGE", key, 0, -1, **{NEVER_DECODE: True}))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Stay connected within the context. Raises Unavailable if Redis cannot be reached at its beginning."""
        listening = asyncio.create_task(self._listen(), name="redis-listener")
        try:
            with _Guard(self.shown):
                await self._client.ping()
            yield
        finally:
            while not listening.done():  # redis loses a cancellation that comes while it connects
                listening.cancel()
                await asyncio.wait({listening}, timeout=CANCEL_AGAIN)
            with suppress(RedisError, OSError):
                await self._client.aclose()

    def listen(self, channel: str, callback: Callable[[str], object]) -> None:
        """Have `callback` called with each message of a channel, from the beginning of `running` on.

        Messages are lost while Redis cannot be reached, so callers must also poll now and then.
        """
        self._listeners.setdefault(channel, []).append(callback)

    async def _listen(self) -> None:
        failures = 0
        while self._listeners:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(*self._listeners)
                    failures = 0
                    async for message in subscription.listen():
                        for callback in self._listeners[message["channel"]]:
                            callback(message["data"])
            except (RedisError, OSError):
                failures += 1
                await asyncio.sleep(BACKOFF.pause(failures))


class _Guard:
    """Turns errors of redis into `Unavailable`, and raises CancelledError if redis has swallowed a cancellation.

    redis sends within `asyncio.wait_for`, which swallows a cancellation that arrives just as the sending is done
    (Python 3.11). A task that makes one call after the other would then never end, and whoever cancelled it would wait
    for ever.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._cancelled = 0  # pending cancellations of the task on entry

    def __enter__(self) -> None:
        self._cancelled = _cancelled()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if _cancelled() > self._cancelled and not isinstance(error, asyncio.CancelledError):
            raise asyncio.CancelledError
        if isinstance(error, RedisError | OSError):
            raise Unavailable(f"Redis at {self._shown} {_why(error)}") from None


def _cancelled() -> int:
    """Return how many cancellations of this task are pending."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _why(error: Exception) -> str:
    """Describe an error without its own text, which may show the URL. The error's context, if any, is more exact."""
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
    """Return a Redis' address, without its password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return "this address"
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{port}"
