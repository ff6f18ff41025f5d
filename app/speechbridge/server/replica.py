"""Limits over several replicas of a service: this replica's own counts, combined with those of the others.

A replica decides in two steps. First it checks its own counts, because a client that exceeds a limit here exceeds it
everywhere. Then it asks for the total of all replicas (`cluster.Use`), in one call for all clients that connect at the
same moment, and one call at a time. While Redis does not answer, its own counts decide alone, so nobody is refused, or
waits for long, because Redis is unavailable. Changes of the counts are reported once Redis is available again.

A place that has just become free at another replica may not be reported yet. So a client that gets no place is asked
for once more, AGAIN_SECONDS later.

Bytes and messages a second are counted in another way: see `traffic`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from speechbridge.cluster import Newcomer, Unavailable
from speechbridge.cluster.joined import sharing_limits
from speechbridge.server.limits import Refused, crowded
from speechbridge.server.traffic import exchanging
from speechbridge.tasks import cancel_and_wait
from syncbridge import Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from speechbridge.cluster import Excess, Use
    from speechbridge.server.admission import Admission, Handshake
    from speechbridge.server.limits import Lease
    from speechbridge.server.traffic import OwnTraffic
    from speechbridge.settings import Settings

    Places = Sequence[tuple[str, int]]  # the name of each, and its limit
    Asked = tuple[Newcomer, asyncio.Future[Excess | None]]

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0  # between two calls that report all counts, in case Redis has lost them
TRY_SECONDS = 1.0  # between two calls while there is no answer
PATIENCE = 2.0  # seconds that a client waits for an answer, at most
AGAIN_SECONDS = 0.05  # until a client that got no place is asked for once more
BATCH = 128  # newcomers in one call: about 1 ms of Redis' time
STREAMS = "streams"  # the name under which all streams are counted, besides the names of accounts


def unreachable(error: Unavailable) -> str:
    """Return the error, in one line, for a Redis that cannot be reached when the service starts."""
    return f"SPEECHBRIDGE_REDIS_URL: {error}: start it, or check the address"


@asynccontextmanager
async def replica_of(
    admission: Admission, settings: Settings, traffic: OwnTraffic | None = None
) -> AsyncIterator[Replica | None]:
    """Take part as a replica within the context; yield None without Redis. Raises Unavailable.

    `traffic` is what its workers receive; None: it has none, and `admission` counts.
    """
    async with sharing_limits(settings) as use:
        if use is None:
            yield None
            return
        replica = Replica(admission, use, settings.max_sessions)
        async with replica.running(), exchanging(traffic or admission.limits, use, settings):
            yield replica


def _places_of(lease: Lease) -> list[tuple[str, int]]:
    return [(account.name, account.most) for account in lease.places]


class Replica:
    """This replica. `admission` holds its own limits; all replicas together may have `most_streams` streams."""

    def __init__(self, admission: Admission, use: Use, most_streams: int) -> None:
        self._admission = admission
        self._use = use
        self._most_streams = most_streams
        self._has: Counter[str] = Counter()  # this replica's places, by name
        self._unreported: set[str] = set()  # names whose number has changed since it was reported
        self._reported_all_at = -math.inf
        self._asked: list[Asked] = []
        self._due = asyncio.Event()
        self._is_unreachable = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Share with the other replicas within the context."""
        calling = asyncio.create_task(self._call_again_and_again(), name="replica-calls")
        try:
            yield
        finally:
            await cancel_and_wait(calling)
            self._decide_alone(self._asked, Unavailable("this replica ends"))
            self._unreported.update(self._has)
            self._has.clear()
            if not self._is_unreachable:
                await self._call()

    async def admit(self, handshake: Handshake) -> Lease:
        """Check a handshake: see `shared.Shared`. Raises Refused.

        Cancellation: no lease is left behind.
        """
        counted: list[str] = []
        try:
            lease = self._admission.admit(handshake, counted)
        except Refused:  # a handshake with an unknown key still counts towards its address, at all replicas
            with suppress(Unavailable):
                if counted and (excess := await self._ask(Newcomer(counted))) is not None:
                    raise self._refusal(excess) from None
            raise
        lease.took = partial(self._took, lease)
        places = _places_of(lease)
        if not places and not counted:
            return lease
        try:
            excess = await self._enter(Newcomer(counted, places))
        except Unavailable:
            self._admission.limits.check(lease)  # other clients may have connected during the call
            self._take(places)
        else:
            if excess is not None:
                raise self._refusal(excess)
        lease.ended = partial(self._free, places)
        return lease

    async def take_stream(self) -> None:
        """Take the place of a stream. Raises Overloaded.

        Cancellation: no place is taken.
        """
        places = [(STREAMS, self._most_streams)]
        try:
            excess = await self._enter(Newcomer((), places))
        except Unavailable:
            self._take(places)
        else:
            if excess is not None:
                raise Overloaded("all streams of the service are in use")

    def free_streams(self, number: int = 1) -> None:
        """Give back the places of a number of streams."""
        self._has[STREAMS] -= number
        self._report(STREAMS)

    def _refusal(self, excess: Excess) -> Refused:
        kind = excess.name.partition(" ")[0]
        return crowded(kind, excess.places) if excess.places else self._admission.limits.too_often(kind, excess.seconds)

    def _took(self, lease: Lease) -> None:
        places = _places_of(lease)
        self._take(places)
        lease.ended = partial(self._free, places)

    def _take(self, places: Places) -> None:
        """Take places without asking."""
        names = [name for name, _ in places]
        self._has.update(names)
        self._report(*names)

    def _free(self, places: Places) -> None:
        names = [name for name, _ in places]
        self._has.subtract(names)
        self._report(*names)

    def _report(self, *names: str) -> None:
        self._unreported.update(names)
        self._due.set()

    # ---- the calls ---------------------------------------------------------------------------------------------------

    async def _enter(self, entry: Newcomer) -> Excess | None:
        """Ask for places, twice if there is none. Return the limit that is exceeded, or None. Raises Unavailable.

        Cancellation: nothing is taken.
        """
        excess = await self._ask(entry)
        if excess is None or not excess.places:
            return excess
        await asyncio.sleep(AGAIN_SECONDS)
        return await self._ask(Newcomer((), entry.places))

    async def _ask(self, entry: Newcomer) -> Excess | None:
        if self._is_unreachable:
            raise Unavailable("there was no answer to the last call")
        answer: asyncio.Future[Excess | None] = asyncio.get_running_loop().create_future()
        self._asked.append((entry, answer))
        self._due.set()
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError:
            raise Unavailable("there was no answer in time") from None
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.exception() is None and answer.result() is None:
                self._free(entry.places)  # the places were granted at the same moment
            raise

    async def _call_again_and_again(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._due.wait()
            await asyncio.sleep(0)  # collect the newcomers of the same moment
            await self._call()
            if self._is_unreachable:
                await asyncio.sleep(TRY_SECONDS)
                self._due.set()

    async def _call(self) -> None:
        """Make one call: report changed counts, or now and then all of them, and ask for waiting newcomers."""
        self._due.clear()
        asked = [one for one in self._asked[:BATCH] if not one[1].done()]
        del self._asked[:BATCH]
        if self._asked:
            self._due.set()
        now = asyncio.get_running_loop().time()
        reports_all = self._is_unreachable or now - self._reported_all_at >= BEAT_SECONDS
        names = {*self._unreported, *(name for entry, _ in asked for name, _ in entry.places)}
        own = {name: self._has[name] for name in (names | set(self._has) if reports_all else names)}
        self._unreported = set()
        try:
            answers = await self._use.enter(own, [entry for entry, _ in asked])
        except BaseException as error:
            self._unreported.update(own)
            self._decide_alone(asked, error)
            if not isinstance(error, Unavailable):
                raise
            self._decide_alone(self._asked, error)
            if not self._is_unreachable:
                logger.warning("limits hold for this replica alone for now: %s", error)
            self._is_unreachable = True
            return
        if self._is_unreachable:
            logger.info("limits hold over all replicas again")
        self._is_unreachable = False
        self._reported_all_at = now if reports_all else self._reported_all_at
        for (entry, answer), excess in zip(asked, answers, strict=True):
            self._answer(entry, answer, excess)
        self._has = +self._has  # drops names with 0 places, which have been reported

    def _answer(self, entry: Newcomer, answer: asyncio.Future[Excess | None], excess: Excess | None) -> None:
        if not answer.done():
            answer.set_result(excess)
            if excess is None:
                self._has.update(name for name, _ in entry.places)
        elif excess is None:  # it was cancelled, or decided alone, so its places must be corrected
            self._report(*(name for name, _ in entry.places))

    def _decide_alone(self, asked: list[Asked], error: BaseException) -> None:
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(Unavailable(str(error)))
                answer.exception()  # marks it as retrieved: the task that asked may be cancelled
        asked.clear()
