"""The queue for places at the speech service: lets one client wait, and sends it its place.

Meanwhile its connection is read, so that a disconnect is noticed. Audio that it sends before its session begins is kept
for the session; after AHEAD_BYTES nothing more is read until the session begins.
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

ASK_SECONDS = 1.0  # after which a waiting client asks again even without a change, so that its ticket does not expire
AHEAD_BYTES = 2**21  # of audio before the session begins: 65 s of 16 kHz mono
REPORT_SECONDS = 5.0  # at least, between two messages if only the estimated wait has changed
FACTOR = 1.5  # by which the estimate must have changed for such a message

TAKEN_OVER = Close(CloseCode.TAKEN_OVER, "another connection waits with this ticket")


class Connection(Protocol):
    """The connection of a waiting client."""

    closed_cleanly: bool

    async def receive(self) -> bytes | str | None: ...

    async def send(self, text: str) -> None: ...

    def unread(self, messages: Iterable[bytes | str]) -> None: ...


class Left(Exception):
    """The client has left while it waited."""


class Queue:
    """The clients that wait in this process. `seconds` is the longest wait."""

    def __init__(self, places: Places, seconds: float) -> None:
        self.places = places
        self.seconds = seconds
        self.draining = asyncio.Event()
        self.is_empty = asyncio.Event()
        self.is_empty.set()

    async def drain(self) -> None:
        """End all waits: each client is asked to connect again. Return once nobody waits."""
        self.draining.set()
        await self.is_empty.wait()

    async def wait(self, connection: Connection, ticket: str | None = None) -> Place:
        """Return a place, after a wait if there is none. Raises NoPlace, and Left.

        Cancellation: no place was taken; the ticket is kept for a client that reconnects.
        """
        if self.places.leases is None:
            return await self.places.take()
        waiter = _Waiter(self, self.places.leases, connection, ticket or secrets.token_urlsafe(16))
        self.places.waiting += 1
        self.is_empty.clear()
        try:
            return await waiter.ask() or await waiter.wait()
        except BaseException:
            self.places.forget(waiter.holder)
            raise
        finally:
            self.places.waiting -= 1
            if self.places.waiting == 0:
                self.is_empty.set()


class _Waiter:
    """One waiting connection, and the place and wait that its client was sent last."""

    def __init__(self, queue: Queue, leases: Leases, connection: Connection, ticket: str) -> None:
        self.holder = secrets.token_urlsafe(16)
        self._queue = queue
        self._leases = leases
        self._connection = connection
        self._ticket = ticket
        self._joins = True  # the next call joins the queue
        self._turn = ""
        self._deadline = time.monotonic() + queue.seconds
        self._place = 0
        self._wait = 0.0
        self._sent_at = -math.inf

    async def wait(self) -> Place:
        """Ask again and again until there is a place."""
        messages: list[bytes | str] = []
        reading = asyncio.create_task(_read(self._connection, messages), name="queue-reader")
        draining = asyncio.create_task(self._queue.draining.wait(), name="queue-drain")
        try:
            while True:
                changing = asyncio.create_task(self._leases.changed(), name="queue-change")
                try:  # changes from here on are noticed, so none is missed between asking and waiting
                    if place := await self.ask():
                        if reading.done():  # the client has left at this moment, which `receive` reports only once
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
        """Ask once; if there is no place, send the client its place in the queue. Raises NoPlace.

        While Redis is unavailable, a new client is refused, but one that is in the queue already waits on.
        """
        try:
            answer, place = await self._queue.places.ask(self._claim())
        except Unavailable as error:
            if not self._place:
                logger.warning("a client cannot wait: %s", error)
                raise NoPlace(NOT_COUNTED) from None
            self._joins = True  # its ticket may have expired by the next answer
            return None
        self._joins = False
        self._turn = answer.turn or self._turn
        if answer.standing is Standing.TAKEN_OVER:
            raise NoPlace(TAKEN_OVER)
        if place is None:
            await self._send(answer)
        return place

    async def _send(self, answer: Answer) -> None:
        """Send the client its place and wait, if the ones that it was sent last are no longer true."""
        if not answer.place:
            return
        now = time.monotonic()
        expected = max(1.0, self._wait - (now - self._sent_at))
        is_wrong = not expected / FACTOR <= max(1.0, answer.wait) <= expected * FACTOR
        if answer.place == self._place and not (is_wrong and now - self._sent_at >= REPORT_SECONDS):
            return
        self._place, self._wait, self._sent_at = answer.place, answer.wait, now
        await self._connection.send(Queued(answer.place, math.ceil(answer.wait), self._ticket).encode())

    async def _check(self, *, has_left: bool) -> None:
        """End the wait if the client has left, the service drains, or the time is up. Raises NoPlace, and Left."""
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

    def _claim(self) -> Claim:
        return Claim(self.holder, self._ticket, self._joins, self._turn)

    async def _leave(self) -> None:
        await self._queue.places.leave(self._claim())


async def _read(connection: Connection, messages: list[bytes | str]) -> None:
    """Keep the messages that a client sends before its session begins; return once it has left."""
    size = 0
    while (message := await connection.receive()) is not None:
        messages.append(message)
        size += len(message)
        if size >= AHEAD_BYTES:
            await asyncio.Event().wait()  # read no more; this task is cancelled when the wait ends
