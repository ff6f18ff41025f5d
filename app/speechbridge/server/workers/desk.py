"""What the parent knows and decides for all workers: who may connect, how many streams there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.close import CloseCode
from speechbridge.server.admission import Admission, Handshake
from speechbridge.server.limits import Refused
from speechbridge.server.workers.channel import packed, unpacked
from speechbridge.server.workers.rates import Rows, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.settings import Settings


class Desk:
    """The leases of connections and the places of streams, each by the worker that has it.

    What a worker has is released when it dies.
    """

    def __init__(self, settings: Settings) -> None:
        """Raise WrongSetting, as Admission does."""
        self._admission = Admission(settings)
        self._most = settings.max_sessions
        self._rows = Rows(rows_of(settings))
        self._leases: defaultdict[str, dict[int, ExitStack]] = defaultdict(dict)
        self._streams: Counter[str] = Counter()
        self._abandoned: dict[str, int] = {}
        self._last = 0

    @property
    def slots(self) -> int:
        return self._most

    @property
    def slots_free(self) -> int:
        """How many streams may still begin. A thread that did not stop takes a slot, as in one process."""
        return max(0, self._most - self._streams.total() - sum(self._abandoned.values()))

    def admit(self, worker: str, handshake: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a worker that asks for a lease."""
        try:
            lease = self._admission.admit(Handshake(**handshake))
        except Refused as refusal:
            return {"refused": [int(refusal.close.code), refusal.close.reason]}
        self._last += 1
        held = self._leases[worker][self._last] = ExitStack()
        held.enter_context(lease.held())
        answer: dict[str, Any] = {"lease": self._last, "owner": lease.owner}
        if lease.is_metered:
            names = [f"{account.kind} {account.who}" for account in lease.metered]
            rows = self._rows.take(names)
            if rows is None:  # those who resume take up no place, so there is no bound to them but this
                self.release(worker, self._last)
                return {"refused": [int(CloseCode.TOO_MANY), "too many clients resume at once: try again shortly"]}
            held.callback(self._rows.free, names)
            answer["rows"] = [[account.kind, row] for account, row in zip(lease.metered, rows, strict=True)]
        return answer

    def make_secret(self, owner: str, seconds: int, settings: str) -> dict[str, Any]:
        """Answer a worker that asks for a new client secret."""
        try:
            value, secret = self._admission.secrets.make(owner, seconds, unpacked(settings))
        except Refused as refusal:
            return {"refused": [int(refusal.close.code), refusal.close.reason]}
        return {"value": value, "secret": packed(secret)}

    def find_secret(self, value: str) -> dict[str, Any]:
        """Answer a worker that asks for a client secret."""
        secret = self._admission.secrets.find(value)
        return {"secret": None if secret is None else packed(secret)}

    def release(self, worker: str, lease: int) -> None:
        """End a lease; one that has ended already stays so."""
        held = self._leases[worker].pop(lease, None)
        if held is not None:
            held.close()

    def take_slot(self, worker: str) -> dict[str, Any]:
        """Answer a worker that asks for the place of a stream."""
        if self.slots_free == 0:
            return {"slot": False}
        self._streams[worker] += 1
        return {"slot": True}

    def free_slot(self, worker: str) -> None:
        self._streams[worker] -= 1

    def abandoned(self, worker: str, threads: int) -> None:
        """Note how many threads of a worker did not stop in time."""
        self._abandoned[worker] = threads

    def died(self, worker: str) -> None:
        """Release all that a worker had."""
        for held in self._leases.pop(worker, {}).values():
            held.close()
        self._streams.pop(worker, None)
        self._abandoned.pop(worker, None)
