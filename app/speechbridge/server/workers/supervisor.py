"""The parent of the workers: it starts them, gives them connections, restarts them, and ends with the last of them.

The package's docstring explains why, and lists the messages between parent and worker.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from speechbridge import cores
from speechbridge.backoff import Backoff
from speechbridge.cluster import Unavailable
from speechbridge.engines.embedded_process import RecognizerFailed
from speechbridge.server.replica import replica_of, unreachable
from speechbridge.server.run import ServiceFailed
from speechbridge.server.speech import embedded_recognizer
from speechbridge.server.workers import private_redis
from speechbridge.server.workers.answers import Answers
from speechbridge.server.workers.child import Child
from speechbridge.server.workers.door import Door
from speechbridge.settings import WrongSetting
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from speechbridge.server.workers.channel import Message
    from speechbridge.settings import Settings

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # between two checks whether each worker answers
FROZEN_SECONDS = 60.0  # without an answer, after which a worker is killed: longer than any stall, even in a debugger
BACKOFF = Backoff(0.2, 5.0)  # seconds before a restart, by the number of failures in a row
STEADY_SECONDS = 2.0  # of being ready, without which a worker's death counts as a failure in a row
END_SECONDS = 8.0  # for a worker to end after its drain: uvicorn's 2 s, the SDKs' grace period, the last sends
FORCED_SECONDS = 2.0  # for a worker to end after a second Ctrl-C
UNCOUNTED = (
    "several workers count it in a Redis that they share: set SPEECHBRIDGE_REDIS_URL, or install redis-server,"
    " valkey-server or live-speech-bridge[workers]"
)


class Supervisor:
    """The parent of `number` workers. It accepts connections from `listeners`, and owns them."""

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket], number: int) -> None:
        """Raise WrongSetting for errors that can be detected before any worker is started."""
        self._redis_url = settings.redis_url.get_secret_value()
        is_wanted = not self._redis_url and settings.private_redis == "on"
        self._redis = private_redis.program() if is_wanted else None
        if settings.account_streams and not self._redis_url and self._redis is None:
            raise WrongSetting(f"SPEECHBRIDGE_ACCOUNT_STREAMS: {UNCOUNTED}, or --workers 1")
        self.has_started = asyncio.Event()
        self._settings = settings
        self._listeners = listeners
        self._answers = Answers(settings, self._running, number)
        self._door = Door(listeners, self._running)
        self._rates = self._answers.desk.rates
        self._names = [str(index + 1) for index in range(number)]
        chosen = cores.choose(cores.allowed(), number) if settings.pin == "on" else []
        self._cores: Mapping[str, int] = dict(zip(self._names, chosen, strict=False))  # empty: no worker is pinned
        self._children: dict[str, Child] = {}
        self._spare: Child | None = None
        self._ending: asyncio.Future[None] | None = None  # done after a signal to end
        self._recognizer = embedded_recognizer(settings)
        self._address: str | None = None  # of the recognizer

    @property
    def url(self) -> str:
        """The WebSocket URL at which it listens."""
        host, port = self._listeners[0].getsockname()[:2]
        return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    async def serve(self) -> None:
        """Serve until a signal. Raises ServiceFailed or WrongSetting if it cannot start."""
        self._ending = asyncio.get_running_loop().create_future()
        self._warn_of_cores()
        async with AsyncExitStack() as stack:
            stack.callback(self._door.close)
            if self._rates is not None:
                stack.callback(self._rates.close)
            stack.push_async_callback(self._answers.close)
            self._take_signals(stack)
            await self._start_redis(stack)
            self._door.can_move = bool(self._redis_url)
            await self._join_replicas(stack)
            if await self._start_recognizer(stack):
                await self._run_workers()

    async def _start_redis(self, stack: AsyncExitStack) -> None:
        """Start a Redis for the workers, if the settings name none. Raises ServiceFailed if they need one."""
        if self._redis_url:
            return
        why = private_redis.WITHOUT
        if self._redis is not None:
            try:
                running = private_redis.private_redis(self._redis, self._settings)
                self._redis_url = await stack.enter_async_context(running)
            except (private_redis.NotStarted, OSError) as error:
                why = f"{self._redis} does not start ({error}): {why}"
            else:
                return
        if self._settings.account_streams:
            raise ServiceFailed(f"SPEECHBRIDGE_ACCOUNT_STREAMS: {why}")
        if self._settings.private_redis == "on":
            logger.warning(why)

    async def _join_replicas(self, stack: AsyncExitStack) -> None:
        """Apply limits to the total of all replicas, if there is a Redis. Raises ServiceFailed."""
        desk = self._answers.desk
        try:
            desk.replica = await stack.enter_async_context(replica_of(desk.admission, self._settings, desk.rows))
        except Unavailable as error:
            raise ServiceFailed(unreachable(error)) from None

    async def _start_recognizer(self, stack: AsyncExitStack) -> bool:
        """Start the embedded recognizer, if the settings need it. Returns False after a signal to end meanwhile."""
        if self._recognizer is None:
            return True
        assert self._ending is not None  # noqa: S101 # `serve` made it
        self._recognizer.on_moved = self._recognizer_moved
        starting = asyncio.ensure_future(stack.enter_async_context(self._recognizer))
        both: list[asyncio.Future[Any]] = [starting, self._ending]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not starting.done():
                await cancel_and_wait(starting)
        if starting.cancelled():
            return False
        try:
            starting.result()
        except RecognizerFailed as failure:
            reason = (
                str(failure) if failure.is_explained else "the service cannot start: the reason is in the log above"
            )
            raise ServiceFailed(reason) from None
        return True

    def _recognizer_moved(self, address: str | None) -> None:
        self._address = address
        for child in self._running():
            child.send({"recognizer": address})

    async def _run_workers(self) -> None:
        keepers = [asyncio.create_task(self._keep(name), name=f"keeper-{name}") for name in self._names]
        watching = asyncio.create_task(self._watch(), name="watch")
        sparing = asyncio.create_task(self._keep_a_spare(), name="spare")
        try:
            await asyncio.gather(*keepers)
        finally:
            for child in self._children.values():
                child.signal(signal.SIGKILL)  # only if one of them could not start
            await cancel_and_wait(watching, sparing, *keepers)
            if self._spare is not None:
                self._spare.signal(signal.SIGKILL)
                await self._spare.ended()

    # ---- starting and restarting workers -----------------------------------------------------------------------------

    async def _keep(self, name: str) -> None:
        """Keep a worker running until the service ends. Raises the error of `_failure` if it cannot start at first."""
        assert self._ending is not None  # noqa: S101 # `serve` made it
        failures = 0
        while not self._ending.done():
            status: int | None = None
            try:
                child = await self._loaded()
            except OSError as error:
                child, why = Child(self._received), str(error)
            else:
                child.be(name, self._cores.get(name))
                self._children[name] = child
                status, why = await self._run_worker(child)
            if self._ending.done():
                return
            if not self.has_started.is_set():
                raise _failure(child, why)
            is_steady = child.ready_at and time.monotonic() - child.ready_at > STEADY_SECONDS
            failures = 0 if is_steady else failures + 1
            pause = BACKOFF.limit(failures - 1) if failures else 0.0
            logger.error("worker %s died (%s); it is restarted in %g s", name, why, pause, extra={"status": status})
            await asyncio.wait({self._ending}, timeout=pause)
            self._answers.restarts += 1

    async def _loaded(self) -> Child:
        """Return a loaded process for a worker: the spare, if there is one, else a new one. Raises OSError."""
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.is_alive else await self._load()

    async def _load(self) -> Child:
        child = Child(self._received, self._rates)
        await child.start(self._environment())
        return child

    async def _keep_a_spare(self) -> None:
        """Keep one spare process loaded, from the service's start to its end."""
        await self.has_started.wait()
        while True:
            if self._spare is None or not self._spare.is_alive:
                with suppress(OSError):  # the next round tries again
                    self._spare = await self._load()
            await asyncio.sleep(CHECK_SECONDS)

    async def _run_worker(self, child: Child) -> tuple[int, str]:
        """Wait until a worker ends, and release what it had; return its exit status, and a text for the log."""
        ending = asyncio.create_task(child.ended(), name=f"ended-{child.name}")
        try:
            await child.started.wait()
            if child.is_ready:
                self._ready(child)
            status = await ending
        except asyncio.CancelledError:
            child.signal(signal.SIGKILL)
            await ending
            raise
        self._children.pop(child.name, None)
        self._answers.died(child)
        self._door.died(child)
        why = child.failure[0] if child.failure else f"exit status {status}"
        return status, why

    def _ready(self, child: Child) -> None:
        child.send({"recognizer": self._address})
        logger.info("worker %s is ready, process %d", child.name, child.pid)
        if len(self._running()) == len(self._names):
            self.has_started.set()
        if self.has_started.is_set():
            self._door.open()

    def _environment(self) -> dict[str, str]:
        """Return variables for the workers: settings that the command line may have changed, and the Redis' URL."""
        known = self._settings
        return {
            "SPEECHBRIDGE_HOST": known.host,
            "SPEECHBRIDGE_PORT": str(known.port),
            "SPEECHBRIDGE_LOG_LEVEL": known.log_level,
            "SPEECHBRIDGE_REDIS_URL": self._redis_url,
        }

    async def _watch(self) -> None:
        """Check now and then whether each worker answers; kill one that has not answered for FROZEN_SECONDS."""
        known: set[Child] = set()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            late = {child for child in self._running() if child.is_late()}
            for child in late - known:
                logger.warning("worker %s does not answer: new connections go to others", child.name)
            for child in known.intersection(self._running()) - late:
                logger.info("worker %s answers again", child.name)
            known = late
            for child in late:
                if child.unanswered_seconds() > FROZEN_SECONDS:
                    logger.error("worker %s has not answered for %g s: it is killed", child.name, FROZEN_SECONDS)
                    child.signal(signal.SIGKILL)
            await self._answers.reports(CHECK_SECONDS)

    def _running(self) -> list[Child]:
        return [child for child in self._children.values() if child.is_ready]

    def _received(self, child: Child, message: Message, connection: socket.socket | None) -> None:
        if connection is not None:
            self._door.hand_on(child, message, connection)
        else:
            self._answers.received(child, message)

    # ---- signals -----------------------------------------------------------------------------------------------------

    def _take_signals(self, stack: AsyncExitStack) -> None:
        """Handle signals, including SIGHUP, unless that is ignored (nohup): a closed terminal ends the service, too."""
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._signalled, number)
            stack.callback(loop.remove_signal_handler, number)

    def _signalled(self, number: signal.Signals) -> None:
        """End the workers: after their drain, or at once at a second Ctrl-C."""
        assert self._ending is not None  # noqa: S101 # `serve` made it
        is_second = self._ending.done() and number == signal.SIGINT
        if not self._ending.done():
            self._ending.set_result(None)
            self._answers.is_draining = True
        for child in self._children.values():
            # A worker that is still loading would print a traceback at SIGINT.
            child.signal(signal.SIGINT if number == signal.SIGINT and child.is_ready else signal.SIGTERM)
        patience = FORCED_SECONDS if is_second else self._settings.drain_seconds + END_SECONDS
        asyncio.get_running_loop().call_later(patience, self._kill)

    def _kill(self) -> None:
        for child in self._children.values():
            logger.error("worker %s did not end in time: it is killed", child.name)
            child.signal(signal.SIGKILL)

    def _warn_of_cores(self) -> None:
        allowed = cores.allowed()
        if 0 < len(allowed) < len(self._names):
            logger.warning(
                "there are %d workers, but they may use only %d cores: as many workers would be enough",
                len(self._names),
                len(allowed),
            )


def _failure(child: Child, why: str) -> Exception:
    """Return the error for a worker that cannot start: WrongSetting or ServiceFailed."""
    if child.failure is None:
        return ServiceFailed(f"worker {child.name} cannot start ({why}): the reason is in the log above")
    text, is_wrong = child.failure
    return WrongSetting(text) if is_wrong else ServiceFailed(text)
