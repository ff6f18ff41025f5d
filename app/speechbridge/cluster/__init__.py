"""What the processes of one service share: leases, a queue, a journal, transcripts for readers, and limits.

This file defines the interfaces. There are two implementations: `cluster.memory`, for a single process, and
`cluster.redis`, for any number of processes on any number of machines. `cluster.joined` selects one. One test suite
runs on both.

**Leases.** A speech service limits the concurrent streams of an account (Rev.ai: 10). A stream holds a lease from
before it connects to the speech service until after it has disconnected. A lease expires unless its holder renews it,
so the leases of a process that died become free by themselves. The limit holds only if a holder that cannot renew its
lease disconnects *before* the lease expires. The holder must see to that (`server.places`).

**The queue.** A client that waits has a ticket. Tickets are served in the order of their arrival. A client keeps its
ticket by asking again. If its connection is lost, the ticket keeps its place, and its turn, for `Terms.ticket_seconds`.

    state of a ticket   event                                           next state    what the caller gets
    ------------------  ----------------------------------------------  ------------  --------------------------
    unknown             joins; more leases are free than tickets wait   held          HELD
    unknown             joins; otherwise                                waiting       WAITING, last
    waiting             asks; fewer tickets before it than leases free  held          HELD
    waiting             asks; otherwise                                 waiting       WAITING, with its place
    waiting             another connection joins with it                waiting       WAITING; the old one: TAKEN_OVER
    waiting             its client leaves on purpose                    unknown
    waiting             nobody asks for `ticket_seconds`                unknown
    held                is released                                     unknown
    held                is not renewed for `lease_seconds`              unknown

A client that does not wait gets HELD or FULL by the condition of the first row, so nobody overtakes the queue. If a
lease is free while the client at the head of the queue is disconnected, the lease stays free for it until its ticket
expires. So nobody's place in the queue ever gets worse.

The shared store may lose everything, as a Redis does that is restarted without its data. Then no lease is granted for a
few seconds, in which holders renew theirs, and waiting clients get their old places back by means of `Claim.turn`.

**The journal.** A resumable stream belongs to one process at a time. That process journals what another process needs
to continue the stream (`cluster.record`). Each write also proves that the process still owns the stream. If the client
reconnects to another process, that one takes the stream over:

    the owner of the stream                  what the other process does
    ---------------------------------------  -----------------------------------------------------------------------
    has released it, or is dead              takes it at once; later writes of the old owner are refused
    is alive                                 asks for it, and waits: the owner closes its upstream connection, writes
                                             the rest, and releases the stream
    is stopped, or cut off from Redis        waits until it counts as dead; by then it has closed its upstream
                                             connection, or the kernel has killed it

So a stream never has two upstream connections, as long as each process follows the rule for leases above.

**Transcripts.** What one speaker says can be read by others, at any process; see `cluster.transcript`.

**Use.** A replica is one service: one process, or a parent with its workers. It counts what its own clients use, under
names: an address, a key, all connections, all streams. `Use` adds these counts up over all replicas, and answers
whether one more is within the limit. A replica reports its counts as totals, not as differences, so a call that is
executed twice does no harm; calls are numbered, so a late one is dropped. The counts are valid for `ALIVE_SECONDS`
after the replica's last call. What replicas receive a second is exchanged after the second has ended; see
`server.traffic`. A single process needs no `Use`: its `server.limits` counts in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from speechbridge.cluster.record import Record
    from speechbridge.cluster.transcript import Transcript
    from speechbridge.protocol.reading import Entry


# Seconds in which a process keeps its leases and its streams, though it does not reach the shared store: it disconnects
# what it may lose, and if it cannot do that, the kernel kills it before others count it as dead.
DISCONNECT_AFTER = 11.0  # Redis may not answer for 5 s and more. To disconnect takes 5 s if a stream is connecting
KILL_BEFORE = 0.5
# What a dead process had is free within 20 s: after this time, and 1 s until waiting clients ask again.
COUNTS_AS_DEAD_AFTER = 18.0


class Unavailable(Exception):
    """The shared store cannot be reached. The text says why, and holds no secret."""


class Elsewhere(Exception):
    """A stream still belongs to another process, which neither releases it nor counts as dead."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The number of leases, and how many seconds a lease and a ticket last if they are not renewed."""

    leases: int
    lease_seconds: float = COUNTS_AS_DEAD_AFTER
    # A client whose connection was lost has 10 s to reconnect; it may have asked last a second before.
    ticket_seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A connection's request for a lease. `ticket` identifies its place in the queue; None: it does not wait.

    `holder` names the connection, and later its lease. With `joins` it asks for the first time: it joins the queue, or
    takes the ticket over from the client's previous connection.
    """

    holder: str
    ticket: str | None = None
    joins: bool = False
    turn: str = ""  # of the answer before: with it one who waits has its place still if everything was forgotten


class Standing(Enum):
    """The result of a claim."""

    HELD = auto()  # it has the lease
    WAITING = auto()  # it has a place in the queue
    FULL = auto()  # it does not wait, and no lease is free
    TAKEN_OVER = auto()  # another connection uses its ticket, or the ticket has expired
    NOT_KNOWN = auto()  # it does not wait, and the store has lost its data: holders have to renew their leases first


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a claim. `place` counts from 1, `wait` is an estimate in seconds.

    Both are 0 unless it waits, and while it is not known who waits before it.
    """

    standing: Standing
    place: int = 0
    wait: float = 0.0
    turn: str = field(default="", compare=False)
    waited: float = field(default=0.0, compare=False)  # seconds since the ticket joined, over all its connections


HELD, FULL = Answer(Standing.HELD), Answer(Standing.FULL)
TAKEN_OVER, NOT_KNOWN = Answer(Standing.TAKEN_OVER), Answer(Standing.NOT_KNOWN)


class Leases(Protocol):
    """The leases of one account, and the queue for them. Every method may raise Unavailable.

    Cancellation: the call may have taken effect, or not.
    """

    @property
    def terms(self) -> Terms: ...

    async def ask(self, claims: Sequence[Claim]) -> list[Answer]:
        """Answer each claim, in order. A holder that has its lease already gets HELD."""

    async def renew(self, holders: Sequence[str]) -> set[str]:
        """Extend these leases by `lease_seconds` from now. Return those that are lost: others hold them by now."""

    async def release(self, holder: str) -> None:
        """Give a lease back. A holder without a lease is ignored."""

    async def leave(self, claim: Claim) -> None:
        """Give up a ticket, unless another connection has taken it over."""

    async def changed(self) -> None:
        """Wait until the places in the queue may have changed. It may also return without a change."""


class Journal(Protocol):
    """The resumable streams of a service, whichever process owns them."""

    @property
    def survives(self) -> bool:
        """Whether streams survive their process. If not, nothing is stored, and no stream can be taken over."""

    @property
    def unstored(self) -> int:
        """How many finals were sent to clients before they were stored, because the store was unavailable."""

    def keep(self, record: Record, lost: Callable[[], object]) -> None:
        """Store a stream that this process has begun or taken, and keep it up to date. Never waits.

        `lost` is called, perhaps several times, when another process asks for the stream, or owns it.
        """

    def forget(self, record: Record) -> None:
        """Stop keeping a stream up to date: it has ended. Never waits."""

    def drop(self, record: Record) -> None:
        """Delete a stream, so that no process can continue it. Never waits."""

    async def release(self, record: Record) -> None:
        """Let any process continue a stream. Its upstream connection must be closed already. Raises Unavailable.

        Cancellation: it may have been released, or not.
        """

    async def take(self, key: str, owner: str) -> Record | None:
        """Take over the stream of a resume key, and return its record; None if this owner has none with this key.

        From then on the caller owns the stream, and must call `keep`. Raises Unavailable, and Elsewhere if another
        process owns it and does not release it.

        Cancellation: it may have been taken; this process can take it again.
        """


class Shares(Protocol):
    """The shared transcripts, by their tokens."""

    async def announce(self, token: str) -> None:
        """Have any process find a transcript that is shared from now on: whoever is told the token may read at once.

        If that cannot be, it is found a moment after the first word. Cancellation: it may be found, or not.
        """

    def sharing(
        self, token: str, before: Sequence[Entry] = (), away_seconds: float = 0.0
    ) -> AbstractContextManager[Transcript]:
        """Share a transcript within a `with` block. Afterwards it has ended, but can be read for a while. Never waits.

        `before` holds the finals so far, if another process began the stream. If this process dies, another one may
        continue the stream within `away_seconds`, and the transcript has not ended before.
        """

    async def find(self, token: str) -> Transcript | None:
        """Return a transcript to read, whichever process its speaker is at; None if there is none. Raises Unavailable.

        It is kept up to date for as long as it has readers (`Transcript.readers`).

        Cancellation: safe.
        """

    async def enter(self, token: str, transcript: Transcript, most: int) -> bool:
        """Count one more reader of a transcript, unless it has so many at all processes; whether it may read.

        Cancellation: it is not counted here; elsewhere for a while, perhaps.
        """

    def leave(self, token: str, transcript: Transcript) -> None:
        """Count one reader less. Never waits."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A connection that asks to be admitted: the names under which its handshake and its place are counted.

    `places` pairs each name with the limit of places under that name; 0: no limit.
    """

    handshakes: Sequence[str] = ()
    places: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True)
class Excess:
    """Why a connection is not admitted: `name` has all its `places`, or has to wait for `seconds` (rate limit)."""

    name: str
    places: int = 0
    seconds: float = 0.0


class Traffic(NamedTuple):
    """What was received, or may be received, in a second."""

    size: int = 0  # bytes
    messages: int = 0


class Use(Protocol):
    """The total use of all replicas."""

    async def enter(self, own: Mapping[str, int], newcomers: Sequence[Newcomer]) -> list[Excess | None]:
        """Report this replica's places, and admit these newcomers; return for each the limit it exceeds, or None.

        `own` holds the places that the replica has, by name, without those of the newcomers. A name that is not in it
        keeps the number reported last. Raises Unavailable.

        Cancellation: the call may have taken effect, or not.
        """

    async def exchange(self, second: int, received: Mapping[str, Traffic], most: Traffic) -> dict[str, Traffic]:
        """Report what this replica received in a second, by name. Return what the others received in the second before.

        Seconds are numbered by the wall clock. The answer holds only those of these names under which all replicas
        together received more than `most` (0: no limit) in each of the three seconds before. If a call is executed
        twice, it has the same effect as once. Raises Unavailable.

        Cancellation: the call may have taken effect, or not.
        """
