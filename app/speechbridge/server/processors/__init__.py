"""What may happen to a response before it goes back: functions of anybody's, one after the other.

A processor takes one response, as the text that the client would get, and returns what the client gets in its place:

    def process(message: str) -> str | None | Iterable[str]      # changed, dropped, or several

It may be `async def`. Of a class an instance is made, once and without arguments, and the instance is called. It takes
text and not parsed messages, as a plain SDK says what it likes, and as parsing drops what it does not know;
`speechbridge.protocol.messages.parse_message` is there for those who want it.

Each session's responses are processed one after the other, so their order stays. Async processors run in the session's
task. Sync ones run in threads of their own, so that one that blocks stops nobody else.

**What if one fails.** One that raises, or is not done in time, is counted and logged, and the response goes on as if it
were not there. Where that must not be (redaction, say) it declares `required = True`, and the response is dropped
instead, and counted. A sync one that does not come back is not asked again in that session until it does.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from speechbridge.engines.function import load
from speechbridge.server.processors.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

logger = logging.getLogger(__name__)

MOST = 100  # messages that one may become: an endless generator ends here

Failure = Literal["raised", "slow"]
FAILURES: tuple[Failure, ...] = get_args(Failure)


@dataclass(frozen=True, slots=True)
class ProcessorStatistics:
    """One processor at one moment."""

    name: str
    raised: int
    slow: int
    withheld: int  # responses that were dropped, because it is required and failed


class Processors:
    """The processors of a service, in their order, shared by its sessions. `seconds` is what each has for a response.

    Sync ones share `threads`. When all are taken by some that do not come back, the others count as slow at once.
    """

    def __init__(self, named: Iterable[tuple[str, Callable[[str], Any]]], *, seconds: float, threads: int) -> None:
        self.seconds = seconds
        self.lanes = Lanes(threads)
        self.steps = tuple(Step(name, function) for name, function in named)

    @classmethod
    def load(cls, paths: str, *, seconds: float, threads: int) -> Processors:
        """Import `package.module:callable,...`. Raises ValueError with the one that is wrong, and why."""
        named = [(path, _usable(path)) for path in map(str.strip, paths.split(",")) if path]
        return cls(named, seconds=seconds, threads=threads)

    def begin(self) -> Processing:
        """Begin a session's."""
        return Processing(self)

    def statistics(self) -> list[ProcessorStatistics]:
        """Return a snapshot."""
        return [ProcessorStatistics(step.name, **step.failures, withheld=step.withheld) for step in self.steps]

    def close(self) -> None:
        """End the threads that are idle; the others end when they are."""
        self.lanes.close()


class Step:
    """One processor, and how often it failed."""

    def __init__(self, name: str, function: Callable[[str], Any]) -> None:
        self.name = name
        self.function = function
        self.is_async = _is_async(function)
        self.required = bool(getattr(function, "required", False))
        self.failures: dict[Failure, int] = dict.fromkeys(FAILURES, 0)
        self.withheld = 0


class _Slow(Exception):
    """A processor did not answer in time."""


class Processing:
    """The processing of one session's responses."""

    def __init__(self, processors: Processors) -> None:
        self._processors = processors
        self._away: dict[Step, asyncio.Future[list[str]]] = {}  # calls that did not come back in time
        self._told: set[tuple[Step, Failure]] = set()  # the log is told once a session; the metrics count each

    async def __call__(self, response: str) -> list[str]:
        """Return what the client gets for a response. Cancellation: safe."""
        messages = [response]
        for step in self._processors.steps:
            messages = [made for message in messages for made in await self._apply(step, message)]
        return messages

    async def _apply(self, step: Step, message: str) -> list[str]:
        try:
            return await (self._await(step, message) if step.is_async else self._call(step, message))
        except _Slow:
            self._report(step, "slow")
        except Exception as error:  # noqa: BLE001 # whatever somebody's function raises; its text may hold what was said
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
            # Its own: the first would pass for the session's cancellation, the others end the whole service.
            raise RuntimeError(type(error).__name__).with_traceback(error.__traceback__) from None

    async def _call(self, step: Step, message: str) -> list[str]:
        if step in self._away and not self._away[step].done():
            raise _Slow
        call = self._processors.lanes.run(lambda: _messages(step.function(message)))
        if call is None:
            raise _Slow
        await asyncio.wait({call}, timeout=self._processors.seconds)
        if not call.done():
            self._away[step] = call
            raise _Slow
        return call.result()

    def _report(self, step: Step, failure: Failure, error: Exception | None = None) -> None:
        step.failures[failure] += 1
        if (step, failure) not in self._told:
            self._told.add((step, failure))
            what = f"raised {_place(error)}" if error else f"was not done within {self._processors.seconds:g} s"
            consequence = "the response is dropped" if step.required else "the response goes on without it"
            logger.warning("the processor %s %s: %s; said once a session", step.name, what, consequence)


def _messages(made: Any) -> list[str]:
    if made is None:
        return []
    several = [made] if isinstance(made, str) else list(islice(made, MOST + 1))
    if len(several) > MOST or not all(isinstance(one, str) for one in several):
        raise TypeError(f"a processor returns a text, None, or at most {MOST} texts")
    for one in several:
        one.encode()  # raises for half of a surrogate pair: it cannot be sent
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
        except Exception as error:  # whatever a class of somebody's raises
            raise ValueError(f"{path!r} cannot be made: {error}") from error
    try:
        with suppress(ValueError):  # some callables of C have no signature
            inspect.signature(found).bind("message")
    except TypeError:
        raise ValueError(f"{path!r} does not take one message") from None
    if inspect.isasyncgenfunction(found):
        raise ValueError(f"{path!r} is an async generator: return a list of messages")
    return found
