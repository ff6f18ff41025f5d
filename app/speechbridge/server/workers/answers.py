"""The parent's answers to its workers' requests: leases and slots from `Desk`, metrics from `Sums`."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from speechbridge.server.metrics import counter, gauge, text_of
from speechbridge.server.shared import SCRAPE_SECONDS, Readiness
from speechbridge.server.workers.desk import Desk
from speechbridge.server.workers.sums import Sums
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.server.metrics import Family
    from speechbridge.server.replica import Replica
    from speechbridge.server.workers.channel import Message
    from speechbridge.server.workers.child import Child
    from speechbridge.settings import Settings

REPORT_SECONDS = 0.5  # for the workers to report at a scrape; after that, their earlier reports are used


def of_workers(running: int, late: int, restarts: int) -> list[Family]:
    """Make the metrics about the workers themselves."""
    return [
        gauge("workers", "Worker processes that are running.", running),
        gauge("workers_late", "Of these, workers that have not answered for a second.", late),
        counter("worker_restarts", "Workers that died and were restarted.", restarts),
    ]


class Answers:
    """Answers the workers' requests. `running` returns the running workers; there should be `number` of them."""

    def __init__(self, settings: Settings, running: Callable[[], list[Child]], number: int) -> None:
        """Raise WrongSetting, as Desk does."""
        self.is_draining = False
        self.restarts = 0
        self._running = running
        self._number = number
        self.desk = Desk(settings, number)
        self._asking: dict[asyncio.Task[None], Child] = {}  # calls to the other replicas, each for a worker
        self._sums = Sums()
        self._ids = itertools.count(1)
        self._scraped, self._scraped_at = b"", -SCRAPE_SECONDS
        self._scrape: asyncio.Task[None] | None = None

    def received(self, child: Child, message: Message) -> None:
        """Handle a worker's message, and answer it if it is a request."""
        if "ask" in message:
            self._asked(child, message)
        elif "take_places" in message:
            self.desk.take_places(child.name, message["take_places"])
        elif "release" in message:
            self.desk.release(child.name, message["release"])
        elif "free" in message:
            self.desk.free_slot(child.name)
        elif "reported" in message:
            self._sums.reported(child.name, message["families"])
            self.desk.abandoned(child.name, message["abandoned"])

    def died(self, child: Child) -> None:
        """Release a dead worker's leases and slots, and keep its counters."""
        for task, asker in self._asking.items():
            if asker is child:
                task.cancel()
        self.desk.died(child.name)
        self._sums.died(child.name)

    async def reports(self, seconds: float) -> None:
        """Have each worker that is not late report its metrics, and wait some seconds at most."""
        asked = [
            asyncio.create_task(child.report(next(self._ids)), name="report")
            for child in self._running()
            if not child.is_late()
        ]
        if asked:
            await asyncio.wait(asked, timeout=seconds)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def close(self) -> None:
        """Stop answering."""
        if self._scrape is not None:
            self._scrape.cancel()
            await asyncio.gather(self._scrape, return_exceptions=True)
        await cancel_and_wait(*self._asking)

    def _asked(self, child: Child, message: Message) -> None:
        number, what = message["ask"], message["what"]
        answer: dict[str, Any]
        if self.desk.replica is not None and what in {"admit", "slot"}:
            task = asyncio.create_task(self._answer_over(self.desk.replica, child, message), name="ask-replicas")
            self._asking[task] = child
            task.add_done_callback(self._asking.pop)
            return
        if what == "admit":
            answer = self.desk.admit(child.name, message["handshake"])
        elif what == "slot":
            answer = self.desk.take_slot(child.name)
        elif what == "make_secret":
            answer = self.desk.make_secret(message["owner"], message["seconds"], message["settings"])
        elif what == "find_secret":
            answer = self.desk.find_secret(message["value"])
        elif what == "readiness":
            answer = {"readiness": asdict(self._readiness())}
        else:
            self._asked_metrics(child, number)
            return
        child.send({"answer": number, **answer})

    async def _answer_over(self, replica: Replica, child: Child, message: Message) -> None:
        """Answer once all replicas have been asked."""
        if message["what"] == "admit":
            answer = await self.desk.admit_over(replica, child.name, message["handshake"])
        else:
            answer = await self.desk.take_slot_over(replica, child.name)
        child.send({"answer": message["ask"], **answer})

    def _readiness(self) -> Readiness:
        running = self._running()
        troubles = [child.trouble for child in running]
        upstream = troubles[0] if all(troubles) else ""  # one healthy worker is enough
        slots, free = self.desk.slots, self.desk.slots_free
        return Readiness(slots, free, upstream, self.is_draining, len(running), self._number)

    def _asked_metrics(self, child: Child, number: int) -> None:
        """Answer with the metrics once all workers have reported. Concurrent requests share one scrape."""
        if self._scrape is None or self._scrape.done():
            self._scrape = asyncio.create_task(self._scraped_again(), name="scrape")

        def answer(_done: object) -> None:
            child.send({"answer": number, "metrics": self._scraped.decode()})

        self._scrape.add_done_callback(answer)

    async def _scraped_again(self) -> None:
        now = asyncio.get_running_loop().time
        if now() - self._scraped_at < SCRAPE_SECONDS:
            return
        await self.reports(REPORT_SECONDS)
        running, late = self._running(), [child for child in self._running() if child.is_late()]
        own = [
            *of_workers(len(running), len(late), self.restarts),
            gauge("slots_free", "Slots that are free.", self.desk.slots_free),
        ]
        total = [family for family in self._sums.total() if family[0] != own[-1][0]]
        self._scraped, self._scraped_at = text_of([*total, *own]), now()
