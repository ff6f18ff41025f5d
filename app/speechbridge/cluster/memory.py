"""The cluster's interfaces, in memory: for a single process, which shares nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from speechbridge.cluster import FULL, HELD, TAKEN_OVER, Answer, Standing
from speechbridge.cluster.transcript import Transcript
from speechbridge.cluster.waits import REMEMBERED, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from speechbridge.cluster import Claim, Terms
    from speechbridge.cluster.record import Record
    from speechbridge.protocol.reading import Entry


ENDED = 1000  # ended transcripts that are kept, at most; the oldest goes first. One minute takes 2 KB, an hour 1 MB


@dataclass(slots=True)
class _Lease:
    begun: float
    until: float


@dataclass(slots=True)
class _Ticket:
    holder: str
    until: float
    since: float


class MemoryLeases:
    """Implements `Leases` for the streams of one process. `clock` returns seconds."""

    def __init__(self, terms: Terms, clock: Callable[[], float] = time.monotonic) -> None:
        self.terms = terms
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._queue: dict[str, _Ticket] = {}  # by ticket, in the order of arrival
        self._lasted: deque[float] = deque(maxlen=REMEMBERED)
        self._change = asyncio.Event()

    async def ask(self, claims: Sequence[Claim]) -> list[Answer]:
        now = self._purged()
        answers = []
        for claim in claims:
            self._keep(claim, now)
            answers.append(self._answer(claim, now))
        return self._with_places(claims, answers, now)

    def _answer(self, claim: Claim, now: float) -> Answer | None:
        """Return the answer to a claim; None if it waits. Its place is known only after all claims were served."""
        free = self.terms.leases - len(self._leases)
        if claim.holder in self._leases:
            return HELD
        if claim.ticket is None:
            if len(self._queue) >= free:
                return FULL
        else:
            found = self._queue.get(claim.ticket)
            if found is None or found.holder != claim.holder:
                return TAKEN_OVER
            # Whether it is a ticket's turn does not depend on who asks first. If a later ticket gets its lease first,
            # one lease less is free, but one ticket less is in the queue, too.
            if claim.ticket not in islice(self._queue, max(0, free)):
                return None
            del self._queue[claim.ticket]
        self._leases[claim.holder] = _Lease(now, now + self.terms.lease_seconds)
        return HELD

    def _with_places(self, claims: Sequence[Claim], answers: list[Answer | None], now: float) -> list[Answer]:
        places = {ticket: place for place, ticket in enumerate(self._queue, 1)}
        ages = [now - lease.begun for lease in self._leases.values()]
        guesses = waits(len(places), self.terms.leases, ages, self._lasted) if None in answers else []

        def waiting(ticket: str) -> Answer:
            place = places[ticket]
            return Answer(Standing.WAITING, place, guesses[place - 1], waited=now - self._queue[ticket].since)

        return [answer or waiting(claim.ticket or "") for claim, answer in zip(claims, answers, strict=True)]

    def _keep(self, claim: Claim, now: float) -> None:
        """Keep a claim's ticket from expiring; add it if it is new."""
        if claim.ticket is None or claim.holder in self._leases:
            return
        found = self._queue.get(claim.ticket)
        if claim.joins or (found is not None and found.holder == claim.holder):
            # A known ticket keeps its place: a dict keeps the order of a key that is set again.
            since = now if found is None else found.since
            self._queue[claim.ticket] = _Ticket(claim.holder, now + self.terms.ticket_seconds, since)

    async def renew(self, holders: Sequence[str]) -> set[str]:
        now, lost = self._purged(), set()
        for holder in holders:
            found = self._leases.get(holder)
            if found is not None:
                found.until = now + self.terms.lease_seconds
            elif len(self._leases) < self.terms.leases:  # it had expired, and nobody else needs it
                self._leases[holder] = _Lease(now, now + self.terms.lease_seconds)
            else:
                lost.add(holder)
        return lost

    async def release(self, holder: str) -> None:
        now = self._purged()
        lease = self._leases.pop(holder, None)
        if lease is not None:
            self._lasted.append(now - lease.begun)
            self._notify()

    async def leave(self, claim: Claim) -> None:
        self._purged()
        found = self._queue.get(claim.ticket or "")
        if found is not None and found.holder == claim.holder:
            del self._queue[claim.ticket or ""]
            self._notify()

    async def changed(self) -> None:
        await self._change.wait()

    def _notify(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _purged(self) -> float:
        """Drop expired leases and tickets; return the time."""
        now = self._clock()
        for holder in [holder for holder, lease in self._leases.items() if lease.until <= now]:
            del self._leases[holder]
        for ticket in [ticket for ticket, found in self._queue.items() if found.until <= now]:
            del self._queue[ticket]
        return now


class NoJournal:
    """Implements `Journal` for a single process, whose streams end with it: it stores nothing."""

    survives = False
    unstored = 0

    def keep(self, record: Record, lost: Callable[[], object]) -> None:
        pass

    def forget(self, record: Record) -> None:
        pass

    def drop(self, record: Record) -> None:
        pass

    async def release(self, record: Record) -> None:
        pass

    async def take(self, _key: str, _owner: str) -> Record | None:
        return None


class MemoryShares:
    """Implements `Shares` for the speakers of one process. A transcript is kept for `seconds` after its end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._transcripts: dict[str, Transcript] = {}
        self._ended: deque[str] = deque()

    async def announce(self, _token: str) -> None:
        pass

    @contextmanager
    def sharing(self, token: str, before: Sequence[Entry] = (), _away_seconds: float = 0.0) -> Iterator[Transcript]:
        transcript = self._transcripts[token] = Transcript(before)
        try:
            yield transcript
        finally:
            if transcript.is_moved:
                self._transcripts.pop(token, None)
            else:
                self._end(token, transcript)

    def _end(self, token: str, transcript: Transcript) -> None:
        transcript.end()
        self._ended.append(token)
        if len(self._ended) > ENDED:
            self._transcripts.pop(self._ended.popleft(), None)
        asyncio.get_running_loop().call_later(self._seconds, self._transcripts.pop, token, None)

    async def find(self, token: str) -> Transcript | None:
        return self._transcripts.get(token)

    async def enter(self, _token: str, transcript: Transcript, most: int) -> bool:
        if transcript.readers >= most:
            return False
        transcript.readers += 1
        return True

    def leave(self, _token: str, transcript: Transcript) -> None:
        transcript.readers -= 1
