"""Opens the streams that checks use. Each has a time limit, and must leave no thread behind."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from syncbridge.bounded import Bounded
from syncbridge.bridge import Bridge
from syncbridge.errors import Early, Stuck
from syncbridge.resumable import Resumable, Resumption
from syncbridge.types import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from syncbridge.testing.subject import Behaviour, Opened, Subject

PATIENCE = 20.0  # seconds; nothing waits this long unless it is broken
GRACE = 2.0  # seconds that an SDK has to stop once it is aborted
SILENCE = 0.5  # seconds without an answer, after which a connection is replaced
MUCH = 2**23  # bytes: more than sockets take while nobody reads
LIMITS = Limits(grace=GRACE)


class Stream:
    """A running stream of a subject."""

    def __init__(self, subject: Subject[Any], bridge: Bridge[bytes, Any], resumable: Resumable[Any] | None) -> None:
        self.subject = subject
        self.bridge = bridge
        self.resumable = resumable

    async def send(self, *items: bytes) -> None:
        for item in items:
            await self.bridge.send(item)

    def end(self) -> None:
        if self.resumable is not None:
            self.resumable.input_ended()
        self.bridge.end()

    async def received(self) -> list[int]:
        """Read to the end. Returns how many bytes each connection was given."""
        found = [self.subject.received(response) async for response in self.bridge]
        return [size for size in found if size is not None]


@asynccontextmanager
async def one(  # noqa: PLR0913 # all but the first two can be left out
    opened: Opened,
    behaviour: Behaviour,
    limits: Limits = LIMITS,
    *,
    position: int = 0,
    answer: float | None = None,
    joins: bool = True,
) -> AsyncIterator[Stream]:
    """Open a stream of one connection, which begins at a position. `answer` bounds its last responses, in seconds."""
    async with opened(behaviour) as subject, threads_back(subject.others):
        attempt = subject.connect(position)
        start = attempt.start if answer is None else Bounded(attempt, answer)
        bridge = Bridge(start, abort=attempt.abort, join=attempt.join if joins else None, limits=limits)
        async with running(bridge):
            yield Stream(subject, bridge, None)


@asynccontextmanager
async def whole(opened: Opened, behaviour: Behaviour, **rules: Any) -> AsyncIterator[Stream]:
    """Open a stream that outlives its connections. Chunks reach the SDK as they are sent, and are never joined."""
    async with opened(behaviour) as subject, threads_back(subject.others):
        made: Resumption[Any] = Resumption(
            **{
                "settled": subject.settled,
                "again": lambda error: isinstance(error, Early | Stuck) or subject.again(error),
                "pause": lambda failures: 0.0 if failures < 5 else None,
                "room": 2 * MUCH,
                "hold": PATIENCE,
                "unit": subject.unit,
                "silence": SILENCE,
                "answer": 6 * SILENCE,
            }
            | rules
        )
        resumable = Resumable(subject.connect, made)
        bridge = Bridge(resumable, abort=resumable.abort, limits=LIMITS)
        async with running(bridge):
            yield Stream(subject, bridge, resumable)


@asynccontextmanager
async def running(bridge: Bridge[bytes, Any]) -> AsyncIterator[None]:
    """Run a bridge, and check that its thread ends."""
    async with asyncio.timeout(PATIENCE), bridge:
        yield
    assert bridge.statistics().state != "abandoned", "its thread does not stop when it is aborted"


@asynccontextmanager
async def threads_back(others: tuple[str, ...]) -> AsyncIterator[None]:
    """Check that no thread is left behind."""
    before = set(threading.enumerate())
    yield
    await asyncio.to_thread(_join, before, ("asyncio_", "syncbridge-timer", *others))


def _join(before: set[threading.Thread], others: tuple[str, ...]) -> None:
    deadline = time.monotonic() + GRACE
    new = set(threading.enumerate()) - before - {threading.current_thread()}
    mine = [thread for thread in new if not any(other in thread.name for other in others)]
    for thread in mine:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in mine if thread.is_alive()]
    assert not left, f"threads are left: {left}: end them with their connection, or name them in `others`"
