"""Places at the speech service: a session's right to one stream of the account, as its process holds it.

`cluster.Leases` counts the leases of all processes. The limit is kept only if each process closes its connection to the
speech service before the connection's lease expires. So four times matter, counted from `confirmed`, the time of the
call that renewed the lease last:

    every RENEW_SECONDS          the lease is renewed. One call renews all leases of this process, also if it has none
    DISCONNECT_AFTER             it could not be renewed: the stream is cut, and its client is asked to connect again
    lease_seconds - KILL_BEFORE  the stream could not be cut, or this process does not run: the kernel kills the process
    lease_seconds                another process may get the lease

`confirmed` is when the call was sent, not when it was answered, because Redis counts from a time in between. A lease is
kept and renewed for as long as a thread may have the connection, even if the session has abandoned that thread.

In a single process without Redis, leases do not expire, and none of this is needed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from speechbridge.cluster import DISCONNECT_AFTER, KILL_BEFORE, Claim, Standing, Unavailable
from speechbridge.cluster.switch import Switch
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.tasks import cancel_and_wait
from syncbridge.start import started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from typing import Any

    from speechbridge.cluster import Answer, Leases

logger = logging.getLogger(__name__)

RENEW_SECONDS = 2.0
# The time in which the speech service should notice that a connection was cut, before another one is opened: a guess.
# It is not needed if the service ended the stream itself.
NOTICE_SECONDS = 0.5
GIVE_BACK_SECONDS = 0.5  # that a client's close is delayed at most, so that its place is free when it connects again

ADOPT_SECONDS = 10.0  # that a client waits at most if it reconnects to another process after its lease has expired
ADOPT_PAUSE = 0.5  # seconds between two attempts

COME_BACK = Close(CloseCode.TRY_AGAIN_LATER, "no stream of the account is free for this one now: try again")
NOT_COUNTED = Close(CloseCode.UNAVAILABLE, "the streams of the account cannot be counted now: try again later")
LOST = Close(CloseCode.UNAVAILABLE, "the stream's place in the account could not be kept: connect again shortly")


class NoPlace(Exception):
    """There is no place for a stream. `close` is the close frame for its client."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Place:
    """The right to one stream of the account. `Places` makes it. `on_lost` is called when the stream must be cut."""

    def __init__(self, places: Places | None = None, holder: str = "", confirmed: float = 0.0) -> None:
        self.holder = holder
        self.confirmed = confirmed
        self.on_lost: Callable[[], object] = lambda: None
        self.is_lost = False
        self.is_handed_over = False
        self._places = places
        self._is_used = False  # a thread uses it, and may have a connection
        self._was_cut: bool | None = None  # set by `release`; None while the place is held

    def used(self, start: Callable[[Any], Iterable[str]]) -> Callable[[Any], Iterable[str]]:
        """Wrap a start function so that the place is kept for as long as its thread runs."""
        if self._places is None:
            return start
        loop = asyncio.get_running_loop()

        def using(audio: Any) -> Iterator[str]:
            self._is_used = True
            try:
                if self._was_cut is None:  # otherwise the session ended before this thread began
                    yield from started(start, audio)
            finally:
                with suppress(RuntimeError):  # the loop was closed while the thread ran
                    loop.call_soon_threadsafe(self._unused)

        return using

    async def release(self, *, was_cut: bool) -> None:
        """Give the place back: at once, or NOTICE_SECONDS later if the stream was cut. Idempotent.

        Cancellation: it is still given back.
        """
        self.on_lost = lambda: None  # it references the session; so both are freed without the garbage collector
        if self._places is None or self._was_cut is not None:
            return
        self._was_cut = was_cut
        if not self._is_used:
            giving = self._places.give_back(self, NOTICE_SECONDS if was_cut else 0.0)
            if not was_cut:
                await asyncio.wait({giving}, timeout=GIVE_BACK_SECONDS)

    def hand_over(self) -> None:
        """Leave the lease to another process, which continues the stream, once the place is released here."""
        self.is_handed_over = True

    def lose(self) -> None:
        """Note that another process has the lease, or will soon."""
        if not self.is_lost:
            self.is_lost = True
            self.on_lost()

    def _unused(self) -> None:
        self._is_used = False
        if self._places is not None and self._was_cut is not None:
            self._places.give_back(self, NOTICE_SECONDS)


class Places:
    """The places that this process holds, and its clients that wait for one. Without `leases` there is no limit."""

    def __init__(self, leases: Leases | None = None) -> None:
        self.leases = leases
        self.waiting = 0  # clients
        self.lost = 0  # places of streams that were cut
        self._expire = leases is not None and leases.terms.lease_seconds < float("inf")
        self._held: dict[str, Place] = {}
        self._unreleased: set[str] = set()
        self._failed_at = -math.inf  # when a place could not be released
        self._asked: list[tuple[Claim, asyncio.Future[Answer]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._calling = asyncio.Lock()  # one call at a time: none may renew a lease that another gives back
        self._switch: Switch | None = None
        self._overdue: asyncio.TimerHandle | None = None

    @property
    def held(self) -> int:
        return len(self._held)

    async def take(self) -> Place:
        """Return a place, without waiting for one to become free. Raises NoPlace.

        Cancellation: no place was taken.
        """
        if self.leases is None:
            return Place()
        try:
            answer, place = await self.ask(Claim(secrets.token_urlsafe(16)))
        except Unavailable as error:
            logger.warning("a stream is refused: %s", error)
            raise NoPlace(NOT_COUNTED) from None
        if answer.standing is Standing.NOT_KNOWN:
            logger.warning("a stream is refused: Redis has forgotten who has a place, and is told again")
            raise NoPlace(NOT_COUNTED)
        if place is None:
            total = self.leases.terms.leases
            text = f"all streams of the account ({total}) are in use: try again when one has ended, or use queue=true"
            raise NoPlace(Close(CloseCode.TOO_MANY, text))
        return place

    async def adopt(self, holder: str) -> Place:
        """Return the place of a stream that another process had. If its lease has expired, wait up to ADOPT_SECONDS.

        Raises NoPlace, which asks the client to connect again.

        Cancellation: no place was taken.
        """
        if self.leases is None:
            return Place()
        loop = asyncio.get_running_loop()
        gives_up_at = loop.time() + ADOPT_SECONDS
        while True:
            try:
                _, place = await self.ask(Claim(holder or secrets.token_urlsafe(16)))
            except Unavailable:
                place = None
            if place is not None:
                return place
            if loop.time() >= gives_up_at:
                raise NoPlace(COME_BACK)
            await asyncio.sleep(ADOPT_PAUSE)

    async def ask(self, claim: Claim) -> tuple[Answer, Place | None]:
        """Ask for a place. All claims that are made at the same moment share one call. Raises Unavailable.

        Cancellation: no place was taken.
        """
        sent = time.monotonic()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((claim, future))
        if len(self._asked) == 1:
            self._begin(self._answer_all(), "places-ask")
        try:
            answer = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:  # answered at the same moment
                self._begin(self._release(claim.holder), "places-release")
            raise
        if answer.standing is not Standing.HELD:
            return answer, None
        place = self._held[claim.holder] = Place(self, claim.holder, sent)
        self._set_deadlines()
        return answer, place

    async def _answer_all(self) -> None:
        await asyncio.sleep(0)  # collect the claims that are made at the same moment
        asked, self._asked = self._asked, []
        try:
            answers = await self._leases.ask([claim for claim, _ in asked])
        except Unavailable as error:
            for claim, future in asked:
                if not future.done():
                    future.set_exception(Unavailable(str(error)))
                if claim.ticket is None:  # it may have got a lease nevertheless, and will not ask again
                    self._begin(self._release(claim.holder), "places-release")
            return
        for (claim, future), answer in zip(asked, answers, strict=True):
            if not future.done():
                future.set_result(answer)
            elif answer.standing is Standing.HELD:  # the task that asked was cancelled
                self._begin(self._release(claim.holder), "places-release")

    def give_back(self, place: Place, seconds: float) -> asyncio.Task[None]:
        """Give a place back after some seconds, or at once leave it to another process to renew. Never waits."""

        async def give() -> None:
            await asyncio.sleep(0.0 if place.is_handed_over else seconds)
            self._held.pop(place.holder, None)
            self._set_deadlines()
            if not place.is_handed_over:
                await self._release(place.holder)

        return self._begin(give(), "places-release")

    def forget(self, holder: str) -> None:
        """Give back the place of a holder that was cancelled, if it got one. Never waits."""
        if (place := self._held.get(holder)) is not None:
            self.give_back(place, 0.0)

    async def leave(self, claim: Claim) -> None:
        """Give up a ticket. If Redis is unavailable, the ticket expires instead."""
        with suppress(Unavailable):
            await self._leases.leave(claim)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Renew leases within the context. Afterwards wait until places are given back."""
        if not self._expire:
            yield
            await self._end_tasks()
            return
        self._switch = Switch()
        renewing = asyncio.create_task(self._renew(), name="places-renew")
        try:
            yield
        finally:
            await cancel_and_wait(renewing)
            await self._end_tasks()
            if self._overdue is not None:
                self._overdue.cancel()
            self._switch.close()
            self._switch = None

    async def _end_tasks(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            async with self._calling:
                holders = [holder for holder, place in self._held.items() if not place.is_lost]
                sent = time.monotonic()
                try:
                    lost = await self._leases.renew(holders)
                    for holder in [*self._unreleased]:
                        await self._leases.release(holder)
                        self._unreleased.discard(holder)
                except Unavailable as error:
                    if holders:
                        logger.warning("%d places in the account cannot be renewed: %s", len(holders), error)
                    continue
            for place in [self._held[holder] for holder in holders if holder in self._held]:
                if place.holder in lost:
                    self._lose(place)
                else:
                    place.confirmed = sent
            self._set_deadlines()

    def _set_deadlines(self) -> None:
        """Set the two deadlines for leases that are not renewed: when we cut streams, and when the kernel kills us."""
        if not self._expire:
            return
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        now, loop = time.monotonic(), asyncio.get_running_loop()
        first = min((place.confirmed for place in self._held.values()), default=None)
        kept = min((place.confirmed for place in self._held.values() if not place.is_lost), default=None)
        if kept is not None:
            self._overdue = loop.call_later(max(0.0, kept + DISCONNECT_AFTER - now), self._cut_overdue)
        if self._switch is None:
            return
        if first is None:
            self._switch.clear()
        else:
            self._switch.set(max(0.0, first + self._leases.terms.lease_seconds - KILL_BEFORE - now))

    def _cut_overdue(self) -> None:
        now = time.monotonic()
        for place in [*self._held.values()]:
            if not place.is_lost and now - place.confirmed >= DISCONNECT_AFTER:
                self._lose(place)
        self._set_deadlines()

    def _lose(self, place: Place) -> None:
        self.lost += 1
        logger.warning("a stream is cut, because its place in the account could not be kept")
        place.lose()

    @property
    def _leases(self) -> Leases:
        assert self.leases is not None  # noqa: S101 # without a limit, no method that calls this is called
        return self.leases

    async def _release(self, holder: str) -> None:
        asked = time.monotonic()
        async with self._calling:
            if self._failed_at < asked:  # otherwise Redis has not answered meanwhile, and not each waits for that
                try:
                    await self._leases.release(holder)
                except Unavailable:
                    self._failed_at = time.monotonic()
            if self._failed_at >= asked:  # `_renew` tries again, so that others need not wait until the lease expires
                self._unreleased.add(holder)

    def _begin(self, call: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(call, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
