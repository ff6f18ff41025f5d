"""The parent's decisions for all workers: who may connect, and how many streams there may be."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.close import CloseCode
from speechbridge.server.admission import Admission, Handshake
from speechbridge.server.limits import Refused
from speechbridge.server.workers.channel import packed, unpacked
from speechbridge.server.workers.rates import Rates, Rows, rows_of
from syncbridge import Overloaded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.server.limits import Lease
    from speechbridge.server.replica import Replica
    from speechbridge.settings import Settings


class Desk:
    """The leases of connections and the slots of streams, by the worker that has them.

    A worker's leases and slots are released when it dies. With a `replica`, limits apply to the total of all replicas:
    then `admit_over` and `take_slot_over` are called instead of `admit` and `take_slot`. The workers count bytes and
    messages in `rates`; None: they are not limited. Whoever makes a `Desk` closes that.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        """Raise WrongSetting, as Admission does."""
        self.admission = Admission(settings)
        self._most = settings.max_sessions
        self._leases: defaultdict[str, dict[int, tuple[Lease, ExitStack]]] = defaultdict(dict)
        self._streams: Counter[str] = Counter()
        self._beginning = 0  # streams for which a call to the other replicas is running
        self.replica: Replica | None = None
        self._abandoned: dict[str, int] = {}
        self._last = 0
        rows = rows_of(settings)
        self.rates = Rates.make(rows, workers) if rows else None
        self.rows = Rows(self.rates) if self.rates is not None else None

    @property
    def slots(self) -> int:
        return self._most

    @property
    def slots_free(self) -> int:
        """How many more streams may begin. A thread that did not stop keeps a slot, as in a single process."""
        return max(0, self._most - self._streams.total() - self._beginning - sum(self._abandoned.values()))

    def admit(self, worker: str, handshake: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a worker's request for a lease."""
        try:
            return self._grant(worker, self.admission.admit(Handshake(**handshake)))
        except Refused as refusal:
            return {"refused": [int(refusal.close.code), refusal.close.reason]}

    async def admit_over(self, replica: Replica, worker: str, handshake: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a worker's request for a lease, with the limits of all replicas.

        Cancellation: nothing is granted.
        """
        try:
            return self._grant(worker, await replica.admit(Handshake(**handshake)))
        except Refused as refusal:
            return {"refused": [int(refusal.close.code), refusal.close.reason]}

    def _grant(self, worker: str, lease: Lease) -> dict[str, Any]:
        self._last += 1
        held = ExitStack()
        self._leases[worker][self._last] = lease, held
        held.enter_context(lease.held())
        answer: dict[str, Any] = {"lease": self._last, "owner": lease.owner}
        if self.rows is not None and lease.is_metered:
            names = [f"{account.kind} {account.who}" for account in lease.metered]
            rows = self.rows.take(names)
            if rows is None:  # connections that resume are not counted, so the number of rows is their only limit
                self.release(worker, self._last)
                return {"refused": [int(CloseCode.TOO_MANY), "too many clients resume at once: try again shortly"]}
            held.callback(self.rows.free, names)
            answer["rows"] = [[account.kind, row] for account, row in zip(lease.metered, rows, strict=True)]
        return answer

    def make_secret(self, owner: str, seconds: int, settings: str) -> dict[str, Any]:
        """Answer a worker's request for a new client secret."""
        try:
            value, secret = self.admission.secrets.make(owner, seconds, unpacked(settings))
        except Refused as refusal:
            return {"refused": [int(refusal.close.code), refusal.close.reason]}
        return {"value": value, "secret": packed(secret)}

    def find_secret(self, value: str) -> dict[str, Any]:
        """Answer a worker's look-up of a client secret."""
        secret = self.admission.secrets.find(value)
        return {"secret": None if secret is None else packed(secret)}

    def release(self, worker: str, lease: int) -> None:
        """End a lease. Idempotent."""
        if (found := self._leases[worker].pop(lease, None)) is not None:
            found[1].close()

    def take_places(self, worker: str, lease: int) -> None:
        """Have a lease take places: see `limits.Lease`. A lease that has ended is ignored."""
        if (found := self._leases[worker].get(lease)) is not None:
            found[0].take_places()

    def take_slot(self, worker: str) -> dict[str, Any]:
        """Answer a worker's request for a stream's slot."""
        if self.slots_free == 0:
            return {"slot": False}
        self._streams[worker] += 1
        return {"slot": True}

    async def take_slot_over(self, replica: Replica, worker: str) -> dict[str, Any]:
        """Answer a worker's request for a stream's slot, with the limits of all replicas.

        Cancellation: nothing is taken.
        """
        if self.slots_free == 0:
            return {"slot": False}
        self._beginning += 1
        try:
            await replica.take_stream()
        except Overloaded:
            return {"slot": False}
        finally:
            self._beginning -= 1
        self._streams[worker] += 1
        return {"slot": True}

    def free_slot(self, worker: str) -> None:
        self._streams[worker] -= 1
        if self.replica is not None:
            self.replica.free_streams()

    def abandoned(self, worker: str, threads: int) -> None:
        """Note how many threads of a worker did not stop in time."""
        self._abandoned[worker] = threads

    def died(self, worker: str) -> None:
        """Release a dead worker's leases and slots."""
        for _, held in self._leases.pop(worker, {}).values():
            held.close()
        streams = self._streams.pop(worker, 0)
        if self.replica is not None:
            self.replica.free_streams(streams)
        self._abandoned.pop(worker, None)
