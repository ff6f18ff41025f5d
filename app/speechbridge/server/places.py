"""Places at the speech service, the holder's side: a session's right to one stream of the account.

`cluster.Leases` counts the leases of all processes. It keeps the limit only if each holder keeps this promise: its
connection to the speech service is closed before its lease expires. So a lease has four moments, counted from the call
that renewed it last, `confirmed`:

    every RENEW_SECONDS          it is renewed. One call renews all leases of this process
    DISCONNECT_AFTER              it could not be renewed: the stream is cut, and its client is told to come back
    lease_seconds - KILL_BEFORE  the stream could not be cut, or nothing of this process runs: the kernel ends it
    lease_seconds                another process may have the lease

`confirmed` is when the call was sent, not when it was answered: Redis counts from a moment in between. A lease is kept,
and renewed, for as long as a thread may have the connection, also after the session has given that thread up.

In one process alone no lease expires, and none of this is needed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from speechbridge.cluster import Claim, Standing, Unavailable
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
DISCONNECT_AFTER = 11.0  # Redis may stand still for 5 s and more. To hang up takes 5 s, if the stream is connecting
KILL_BEFORE = 0.5  # seconds
# For the speech service to notice that a connection was cut, before another one is opened: a guess. Where it ended the
# stream itself, it knows.
NOTICE_SECONDS = 0.5
GIVE_BACK_SECONDS = 0.5  # that a client waits for its close, at most, so that its place is free when it comes again

ADOPT_SECONDS = 10.0  # that a client waits which has come back to another process, and whose lease has expired
ADOPT_PAUSE = 0.5  # seconds

COME_BACK = Close(CloseCode.TRY_AGAIN_LATER, "no stream of the account is free for this one now: try again")
NOT_COUNTED = Close(CloseCode.UNAVAILABLE, "the streams of the account cannot be counted now: try again later")
LOST = Close(CloseCode.UNAVAILABLE, "the stream's place in the account could not be kept: connect again shortly")


class NoPlace(Exception):
    """There is no place for a stream. `close` is what its client is told."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Place:
    """The right to one stream of the account, from `Places`. `on_lost` is called when the stream must be cut."""

    def __init__(self, places: Places | None = None, holder: str = "", confirmed: float = 0.0) -> None:
        self.holder = holder
        self.confirmed = confirmed
        self.on_lost: Callable[[], object] = lambda: None
        self.is_lost = False
        self.is_passed_on = False
        self._places = places
        self._is_used = False  # by a thread that may have a connection
        self._was_cut: bool | None = None  # None as long as the place is held

    def used(self, start: Callable[[Any], Iterable[str]]) -> Callable[[Any], Iterable[str]]:
        """Return a start function that keeps the place for as long as its thread runs."""
        if self._places is None:
            return start
        loop = asyncio.get_running_loop()

        def using(audio: Any) -> Iterator[str]:
            self._is_used = True
            try:
                if self._was_cut is None:  # or the session has ended before its thread began
                    yield from started(start, audio)
            finally:
                with suppress(RuntimeError):  # the loop was closed while the thread ran
                    loop.call_soon_threadsafe(self._unused)

        return using

    async def release(self, *, was_cut: bool) -> None:
        """Give the place back: at once, or a moment later if the stream was cut. Idempotent.

        Cancellation: it is given back all the same.
        """
        if self._places is None or self._was_cut is not None:
            return
        self._was_cut = was_cut
        if not self._is_used:
            giving = self._places.give_back(self, NOTICE_SECONDS if was_cut else 0.0)
            if not was_cut:
                await asyncio.wait({giving}, timeout=GIVE_BACK_SECONDS)

    def pass_on(self) -> None:
        """Leave the lease to another process, which goes on with the stream, once the place is released here."""
        self.is_passed_on = True

    def lose(self) -> None:
        """Note that the lease is, or soon will be, another's."""
        if not self.is_lost:
            self.is_lost = True
            self.on_lost()

    def _unused(self) -> None:
        self._is_used = False
        if self._places is not None and self._was_cut is not None:
            self._places.give_back(self, NOTICE_SECONDS)


class Places:
    """The places that this process holds, and those who wait for one here. Without `leases` there is no limit."""

    def __init__(self, leases: Leases | None = None) -> None:
        self.leases = leases
        self.waiting = 0  # clients
        self.lost = 0  # places of streams that were cut
        self._expire = leases is not None and leases.terms.lease_seconds < float("inf")
        self._held: dict[str, Place] = {}
        self._unreleased: set[str] = set()
        self._asked: list[tuple[Claim, asyncio.Future[Answer]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._calling = asyncio.Lock()  # a lease that is given back must not be renewed by a call that is under way
        self._switch: Switch | None = None
        self._overdue: asyncio.TimerHandle | None = None

    @property
    def held(self) -> int:
        return len(self._held)

    async def take(self) -> Place:
        """Return a place, at once. Raises NoPlace.

        Cancellation: no place was taken.
        """
        if self.leases is None:
            return Place()
        try:
            answer, place = await self.ask(Claim(secrets.token_urlsafe(16)))
        except Unavailable as away:
            logger.warning("a stream is refused: %s", away)
            raise NoPlace(NOT_COUNTED) from None
        if place is None or answer.standing is not Standing.HELD:
            total = self.leases.terms.leases
            text = f"all {total} streams of the account are in use: try again when one has ended, or use queue=true"
            raise NoPlace(Close(CloseCode.TOO_MANY, text))
        return place

    async def adopt(self, holder: str) -> Place:
        """Return the place of a stream that another process had. If its lease has expired, wait a moment for another.

        Raises NoPlace: its client should come back.

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
        """Ask for a place. Those who ask at one moment ask in one call. Raises Unavailable.

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
            if future.done() and not future.cancelled() and future.exception() is None:  # answered at that moment
                self._begin(self._release(claim.holder), "places-release")
            raise
        if answer.standing is not Standing.HELD:
            return answer, None
        place = self._held[claim.holder] = Place(self, claim.holder, sent)
        self._mind()
        return answer, place

    async def _answer_all(self) -> None:
        await asyncio.sleep(0)  # for those who ask at the same moment
        asked, self._asked = self._asked, []
        try:
            answers = await self._leases.ask([claim for claim, _ in asked])
        except Unavailable as away:
            for claim, future in asked:
                if not future.done():
                    future.set_exception(Unavailable(str(away)))
                if claim.ticket is None:  # it may have got one all the same, and will not ask again
                    self._begin(self._release(claim.holder), "places-release")
            return
        for (claim, future), answer in zip(asked, answers, strict=True):
            if not future.done():
                future.set_result(answer)
            elif answer.standing is Standing.HELD:  # who asked has gone
                self._begin(self._release(claim.holder), "places-release")

    def give_back(self, place: Place, seconds: float) -> asyncio.Task[None]:
        """Give a place back after so many seconds, or let another process renew it. Never waits."""

        async def give() -> None:
            await asyncio.sleep(0.0 if place.is_passed_on else seconds)
            self._held.pop(place.holder, None)
            self._mind()
            if not place.is_passed_on:
                await self._release(place.holder)

        return self._begin(give(), "places-release")

    def forget(self, holder: str) -> None:
        """Give back what this holder may have got, as nobody took it. Never waits."""
        if (place := self._held.get(holder)) is not None:
            self.give_back(place, 0.0)

    async def leave(self, claim: Claim) -> None:
        """Give up a ticket, if that can be: otherwise it expires."""
        with suppress(Unavailable):
            await self._leases.leave(claim)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Renew what is held, for as long as the context lasts. Then give everything back."""
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
                if not holders and not self._unreleased:
                    continue
                sent = time.monotonic()
                try:
                    lost = await self._leases.renew(holders)
                    for holder in [*self._unreleased]:
                        await self._leases.release(holder)
                        self._unreleased.discard(holder)
                except Unavailable as away:
                    logger.warning("%d places in the account cannot be renewed: %s", len(holders), away)
                    continue
            for place in [self._held[holder] for holder in holders if holder in self._held]:
                if place.holder in lost:
                    self._lose(place)
                else:
                    place.confirmed = sent
            self._mind()

    def _mind(self) -> None:
        """Set the two moments at which places that were not renewed are cut: by us, and by the kernel."""
        if not self._expire:
            return
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        now, loop = time.monotonic(), asyncio.get_running_loop()
        first = min((place.confirmed for place in self._held.values()), default=None)
        kept = min((place.confirmed for place in self._held.values() if not place.is_lost), default=None)
        if kept is not None:
            self._overdue = loop.call_later(max(0.0, kept + DISCONNECT_AFTER - now), self._hang_up)
        if self._switch is None:
            return
        if first is None:
            self._switch.clear()
        else:
            self._switch.set(max(0.0, first + self._leases.terms.lease_seconds - KILL_BEFORE - now))

    def _hang_up(self) -> None:
        now = time.monotonic()
        for place in [*self._held.values()]:
            if not place.is_lost and now - place.confirmed >= DISCONNECT_AFTER:
                self._lose(place)
        self._mind()

    def _lose(self, place: Place) -> None:
        self.lost += 1
        logger.warning("a stream is cut, as its place in the account could not be kept")
        place.lose()

    @property
    def _leases(self) -> Leases:
        assert self.leases is not None  # noqa: S101 # nothing is asked where there is no limit
        return self.leases

    async def _release(self, holder: str) -> None:
        async with self._calling:
            try:
                await self._leases.release(holder)
            except Unavailable:  # it expires; if there is an answer before, others need not wait so long
                self._unreleased.add(holder)

    def _begin(self, call: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(call, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
