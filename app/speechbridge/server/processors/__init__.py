"""Post-processing: the user's own functions, which each response passes through, one after the other.

A processor takes one response, as the text that the client would get, and returns what the client gets instead:

    def process(message: str) -> str | None | Iterable[str]      # changed, dropped, or several

It may be `async def`. If it is a class, one instance is made, without arguments, and that is called. It takes text
instead of parsed messages, because other SDKs have their own formats, and parsing drops unknown fields.
`speechbridge.protocol.messages.parse_message` parses Rev.ai's messages.

The responses of a session are processed one after the other, so they stay in order. Async processors run in the
session's task. Sync ones run in their own threads, so that one that blocks delays nobody else.

**Failures.** If a processor raises, or takes too long, that is counted and logged, and the response goes on unchanged.
If that must not happen (as with redaction), the processor declares `required = True`: then the response is dropped, and
counted. A sync processor that does not return is not called again in that session until it does.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from speechbridge.loading import load
from speechbridge.server.processors.lanes import Lanes
from speechbridge.settings import WrongSetting, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from speechbridge.settings import ProcessorSettings

logger = logging.getLogger(__name__)

MOST = 100  # messages that one response may become, so that an endless generator is stopped

Failure = Literal["raised", "slow"]
FAILURES: tuple[Failure, ...] = get_args(Failure)


@dataclass(frozen=True, slots=True)
class ProcessorStatistics:
    """A snapshot of one processor's counters."""

    name: str
    raised: int
    slow: int
    withheld: int  # responses that were dropped because this required processor failed


class Processors:
    """The processors of a service, in order, shared by its sessions. Each may take `seconds` for a response.

    Sync ones share a number of `threads`. If calls that do not return occupy all of them, further calls fail at once as
    too slow.
    """

    def __init__(
        self, named: Iterable[tuple[str, Callable[[str], Any]]] = (), *, seconds: float = 1.0, threads: int = 1
    ) -> None:
        self.seconds = seconds
        self.lanes = Lanes(threads)
        self.steps = tuple(Step(name, function) for name, function in named)

    @classmethod
    def choose(cls, settings: ProcessorSettings, *, threads: int) -> Processors:
        """Import the processors that the settings name. Raises WrongSetting, which names the unusable one."""
        try:
            named = [(path, _usable(path)) for path in split(settings.processors)]
        except ValueError as error:
            raise WrongSetting(f"SPEECHBRIDGE_PROCESSORS: {error}") from None
        return cls(named, seconds=settings.processor_seconds, threads=threads)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """End the threads when the context ends."""
        try:
            yield
        finally:
            self.close()

    def begin(self) -> Processing:
        """Return a callable that processes the responses of one session."""
        return Processing(self)

    def statistics(self) -> list[ProcessorStatistics]:
        """Return a snapshot."""
        return [ProcessorStatistics(step.name, **step.failures, withheld=step.withheld) for step in self.steps]

    def close(self) -> None:
        """End idle threads now, and each busy one when its call has returned. Never waits."""
        self.lanes.close()


class Step:
    """One processor, and the counters of its failures."""

    def __init__(self, name: str, function: Callable[[str], Any]) -> None:
        self.name = name
        self.function = function
        self.is_async = _is_async(function)
        self.required = bool(getattr(function, "required", False))
        self.failures: dict[Failure, int] = dict.fromkeys(FAILURES, 0)
        self.withheld = 0


class _Slow(Exception):
    """A processor took too long."""


class Processing:
    """The processing of one session's responses."""

    def __init__(self, processors: Processors) -> None:
        self._processors = processors
        self._overdue: dict[Step, asyncio.Future[list[str]]] = {}  # calls that did not return in time
        self._logged: set[tuple[Step, Failure]] = set()  # logged once per session; the metrics count all

    async def __call__(self, response: str) -> list[str]:
        """Return the messages that the client gets for a response. Cancellation: safe."""
        messages = [response]
        for step in self._processors.steps:
            messages = [made for message in messages for made in await self._apply(step, message)]
        return messages

    async def _apply(self, step: Step, message: str) -> list[str]:
        try:
            return await (self._await(step, message) if step.is_async else self._call(step, message))
        except _Slow:
            self._report(step, "slow")
        except Exception as error:  # noqa: BLE001 # a user's function may raise anything; its text may hold speech
            self._report(step, "raised", error)
        if step.required:
            step.withheld += 1
            return []
        return [message]

    async def _await(self, step: Step, message: str) -> list[str]:
        answer: Awaitable[Any] = step.function(message)
        try:
            async with asyncio.timeout(self._processors.seconds) as limit:
                return _messages(await answer)
        except TimeoutError:
            if limit.expired():
                raise _Slow from None
            raise
        except (asyncio.CancelledError, SystemExit, KeyboardInterrupt) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The processor itself raised it. If it left this function, CancelledError would look like a cancellation of
            # the session, and the others would end the whole service.
            raise RuntimeError(type(error).__name__).with_traceback(error.__traceback__) from None

    async def _call(self, step: Step, message: str) -> list[str]:
        if step in self._overdue and not self._overdue[step].done():
            raise _Slow
        call = self._processors.lanes.run(lambda: _messages(step.function(message)))
        if call is None:
            raise _Slow
        await asyncio.wait({call}, timeout=self._processors.seconds)
        if not call.done():
            self._overdue[step] = call
            raise _Slow
        return call.result()

    def _report(self, step: Step, failure: Failure, error: Exception | None = None) -> None:
        step.failures[failure] += 1
        if (step, failure) not in self._logged:
            self._logged.add((step, failure))
            what = f"raised {_place(error)}" if error else f"was not done within {self._processors.seconds:g} s"
            consequence = "the response is dropped" if step.required else "the response goes on without it"
            logger.warning("the processor %s %s: %s; logged once a session", step.name, what, consequence)


def _messages(made: Any) -> list[str]:
    if made is None:
        return []
    several = [made] if isinstance(made, str) else list(islice(made, MOST + 1))
    if len(several) > MOST or not all(isinstance(one, str) for one in several):
        raise TypeError(f"a processor returns a text, None, or at most {MOST} texts")
    for one in several:
        one.encode()  # raises for half of a surrogate pair, which cannot be sent
    return several


def _place(error: Exception) -> str:
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _is_async(function: Any) -> bool:
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def _usable(path: str) -> Callable[[str], Any]:
    found = load(path)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:  # a user's class may raise anything
            raise ValueError(f"{path!r} cannot be instantiated: {error}") from error
    try:
        with suppress(ValueError):  # some callables written in C have no signature
            inspect.signature(found).bind("message")
    except TypeError:
        raise ValueError(f"{path!r} does not take one message") from None
    if inspect.isasyncgenfunction(found):
        raise ValueError(f"{path!r} is an async generator: return a list of messages")
    return found
