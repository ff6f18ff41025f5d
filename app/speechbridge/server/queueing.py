"""The queue for places at the speech service, as one client sees it: it waits, and is told its place.

Meanwhile its connection is read, so that its leaving is noticed. Audio that it sends already is kept for its session;
once that is AHEAD_BYTES, nothing more is read until the session begins.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from typing import TYPE_CHECKING, Protocol

from speechbridge.cluster import Claim, Standing, Unavailable
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.protocol.messages import Queued
from speechbridge.server.places import NOT_COUNTED, NoPlace
from speechbridge.server.verdicts import DRAINED
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from speechbridge.cluster import Answer, Leases
    from speechbridge.server.places import Place, Places

logger = logging.getLogger(__name__)

ASK_SECONDS = 1.0  # until one who waits asks again, also if nothing has changed: its ticket expires otherwise
AHEAD_BYTES = 2**21  # of audio before the session begins: 65 s of 16 kHz mono
TELL_SECONDS = 5.0  # between two messages, as long as only the wait changes
FACTOR = 1.5  # by which the wait must have changed then

TAKEN_OVER = Close(CloseCode.TAKEN_OVER, "another connection waits with this ticket")


class Connection(Protocol):
    """The connection of a client that waits."""

    closed_cleanly: bool

    async def receive(self) -> bytes | str | None: ...

    async def send(self, text: str) -> None: ...

    def unread(self, messages: Iterable[bytes | str]) -> None: ...


class Left(Exception):
    """The client has left while it waited."""


class Queue:
    """Those who wait in this process. `seconds` is the longest wait."""

    def __init__(self, places: Places, seconds: float) -> None:
        self.places = places
        self.seconds = seconds
        self.draining = asyncio.Event()
        self.none_waits = asyncio.Event()
        self.none_waits.set()

    async def drain(self) -> None:
        """Let nobody wait any more: each is told to come again. Return once they have been told."""
        self.draining.set()
        await self.none_waits.wait()

    async def wait(self, connection: Connection, ticket: str | None = None) -> Place:
        """Return a place, after a wait if there is none. Raises NoPlace, and Left.

        Cancellation: no place was taken; the ticket is kept for a client that comes back.
        """
        if self.places.leases is None:
            return await self.places.take()
        waiter = _Waiter(self, self.places.leases, connection, ticket or secrets.token_urlsafe(16))
        self.places.waiting += 1
        self.none_waits.clear()
        try:
            return await waiter.ask() or await waiter.wait()
        except BaseException:
            self.places.forget(waiter.holder)
            raise
        finally:
            self.places.waiting -= 1
            if self.places.waiting == 0:
                self.none_waits.set()


class _Waiter:
    """One connection that waits, and what its client has been told."""

    def __init__(self, queue: Queue, leases: Leases, connection: Connection, ticket: str) -> None:
        self.holder = secrets.token_urlsafe(16)
        self._queue = queue
        self._leases = leases
        self._connection = connection
        self._ticket = ticket
        self._joins = True  # with the next call
        self._deadline = time.monotonic() + queue.seconds
        self._place = 0
        self._wait = 0.0
        self._told_at = -math.inf

    async def wait(self) -> Place:
        """Ask again and again until there is a place."""
        messages: list[bytes | str] = []
        reading = asyncio.create_task(_read(self._connection, messages), name="queue-reader")
        draining = asyncio.create_task(self._queue.draining.wait(), name="queue-drain")
        try:
            while True:
                changing = asyncio.create_task(self._leases.changed(), name="queue-change")
                try:  # what changes after this line is noticed: so it is asked first, and waited afterwards
                    if place := await self.ask():
                        if reading.done():  # its client has left at that moment, and says so only once
                            raise Left
                        return place
                    seconds = min(ASK_SECONDS, self._deadline - time.monotonic())
                    ends = {reading, draining, changing}
                    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await cancel_and_wait(changing)
                await self._check(has_left=reading.done())
        finally:
            await cancel_and_wait(reading, draining)
            self._connection.unread(messages)

    async def ask(self) -> Place | None:
        """Ask once; tell the client its place if there is none. Raises NoPlace.

        One who comes while Redis is away is refused. One who waits already waits on.
        """
        try:
            answer, place = await self._queue.places.ask(Claim(self.holder, self._ticket, self._joins))
        except Unavailable as away:
            if not self._place:
                logger.warning("a client cannot wait: %s", away)
                raise NoPlace(NOT_COUNTED) from None
            self._joins = True  # its ticket may have expired when there is an answer again
            return None
        self._joins = False
        if answer.standing is Standing.TAKEN_OVER:
            raise NoPlace(TAKEN_OVER)
        if place is None:
            await self._tell(answer)
        return place

    async def _tell(self, answer: Answer) -> None:
        """Tell the client its place, if that, or the wait that it was told, is not true any more."""
        now = time.monotonic()
        expected = max(1.0, self._wait - (now - self._told_at))
        is_wrong = not expected / FACTOR <= max(1.0, answer.wait) <= expected * FACTOR
        if answer.place == self._place and not (is_wrong and now - self._told_at >= TELL_SECONDS):
            return
        self._place, self._wait, self._told_at = answer.place, answer.wait, now
        await self._connection.send(Queued(answer.place, math.ceil(answer.wait), self._ticket).encode())

    async def _check(self, *, has_left: bool) -> None:
        """End the wait if the client has left, the service drains, or it takes too long. Raises NoPlace, and Left."""
        if has_left:
            if self._connection.closed_cleanly:
                await self._leave()
            raise Left
        if self._queue.draining.is_set():
            raise NoPlace(DRAINED[1])
        if time.monotonic() >= self._deadline:
            await self._leave()
            text = f"no stream of the account was free within {self._queue.seconds:g} s: try again later"
            raise NoPlace(Close(CloseCode.TOO_MANY, text))

    async def _leave(self) -> None:
        await self._queue.places.leave(Claim(self.holder, self._ticket))


async def _read(connection: Connection, messages: list[bytes | str]) -> None:
    """Keep what a client sends before its session begins; return once it has left."""
    size = 0
    while (message := await connection.receive()) is not None:
        messages.append(message)
        size += len(message)
        if size >= AHEAD_BYTES:
            await asyncio.Event().wait()  # nothing more is read: it is cancelled when the wait ends
