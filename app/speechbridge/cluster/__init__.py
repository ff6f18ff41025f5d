"""What the processes of one service share, as a port: leases, a queue, a journal, transcripts for readers, and limits.

Two implementations: `cluster.memory`, for one process, and `cluster.redis`, for any number on any number of machines.
`cluster.joined` chooses. One suite of tests holds for both.

**Leases.** A speech service bounds the streams of an account (Rev.ai: 10). A stream holds a lease from before it
connects until after it has hung up. A lease has an expiry, which its holder moves on by renewing it; so the leases of a
process that died are free again by themselves. The bound holds only if a holder that cannot renew hangs up *before* its
lease expires: that is the holder's part (`server.places`).

**The queue.** One who waits has a ticket. Tickets are served in the order in which they came. A ticket is kept by
asking again; one whose client was cut off keeps its place, and its turn, for `Terms.ticket_seconds`.

    state of a ticket   event                                           next state    what the one who asks gets
    ------------------  ----------------------------------------------  ------------  --------------------------
    unknown             joins; more leases are free than tickets wait   held          HELD
    unknown             joins; otherwise                                waiting       WAITING, last
    waiting             asks; fewer tickets before it than leases free  held          HELD
    waiting             asks; otherwise                                 waiting       WAITING, with its place
    waiting             another holder joins with it                    waiting       WAITING; who had it: TAKEN_OVER
    waiting             its client has left on purpose                  unknown
    waiting             nobody asks for `ticket_seconds`                unknown
    held                is released                                     unknown
    held                not renewed for `lease_seconds`                 unknown

One who does not wait gets HELD or FULL by the first line's condition: nobody overtakes the queue. A lease that is free
while the first of the queue is cut off stays free for that one until its ticket expires. So a place only falls.

What is shared may forget everything, as a Redis does that is restarted without its data. Then no lease is given for a
few seconds, in which holders renew theirs, and those who wait ask with their turns and have their places again.

**The journal.** A resumable stream belongs to one process at a time. That one journals what another needs to go on
with it (`cluster.record`), and each write says that it has the stream still. A client that comes back to another
process has its stream taken from the first one:

    the process that has the stream    what the one that takes it does
    ---------------------------------  -------------------------------------------------------------------------
    has let it go, or is dead          takes it at once; what the old one writes after that is refused
    lives                              asks for it, and waits: the old one hangs up, writes the rest, lets it go
    stands still, or cannot be heard   waits until it counts as dead; it has hung up by then, or the kernel ended it

So a stream never has two upstreams, as long as each process keeps what is said of leases above.

**Transcripts.** What one speaker says may be read by others, at any process: `cluster.transcript` says how.

**Use.** A replica is one service: one process, or a parent with its workers. It counts what its own clients use, by
name: an address, a key, all connections, all streams. Over several replicas `Use` adds that up, and answers whether one
more is within the limit. A replica says what it has as a number, not as a difference, so a call may be carried out
twice; calls are numbered, so one that comes late is dropped. What it has counts for `ALIVE_SECONDS` after its last
call. One process alone asks nobody: `server.limits` is what this port is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from speechbridge.cluster.record import Record
    from speechbridge.cluster.transcript import Transcript
    from speechbridge.protocol.reading import Entry


class Away(Exception):
    """What is shared cannot be reached. The text says why, and holds no secret."""


class Elsewhere(Exception):
    """A stream is at another process still, which neither lets it go nor counts as dead."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How many leases there are, and for how many seconds a lease and a ticket last if nobody renews them."""

    leases: int
    # A dead process's leases are free within 20 s: this, and 1 s until the next of those who wait ask again.
    lease_seconds: float = 18.0
    # A client that was cut off has 10 s to come back; the last time that it asked may be a second ago.
    ticket_seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One who asks for a lease. `ticket` is its place in the queue, None for one who does not wait.

    `holder` names the one connection that asks, and then the lease. With `joins` it asks for the first time: it joins
    the queue, or takes the ticket over from the connection before it.
    """

    holder: str
    ticket: str | None = None
    joins: bool = False
    turn: str = ""  # of the answer before: with it one who waits has its place still if everything was forgotten


class Standing(Enum):
    """What one who asks for a lease gets."""

    HELD = auto()  # it has the lease
    WAITING = auto()  # it has a place in the queue
    FULL = auto()  # it does not wait, and no lease is free
    TAKEN_OVER = auto()  # another connection came with its ticket, or the ticket has expired
    NOT_KNOWN = auto()  # it does not wait, and what is held was forgotten: holders are to tell of their leases first


@dataclass(frozen=True, slots=True)
class Answer:
    """Where one who asks stands. `place` counts from 1, `wait` is a guess in seconds.

    Both are 0 for one who does not wait; and for one who does, as long as it is not known who waits before it.
    """

    standing: Standing
    place: int = 0
    wait: float = 0.0
    turn: str = field(default="", compare=False)


HELD, FULL = Answer(Standing.HELD), Answer(Standing.FULL)
TAKEN_OVER, NOT_KNOWN = Answer(Standing.TAKEN_OVER), Answer(Standing.NOT_KNOWN)


class Leases(Protocol):
    """The leases of one account, and the queue for them. Every method raises Away.

    Cancellation: it may have been done, or not.
    """

    @property
    def terms(self) -> Terms: ...

    async def ask(self, claims: Sequence[Claim]) -> list[Answer]:
        """Answer each of those who ask. A holder that has its lease already gets HELD."""

    async def renew(self, holders: Sequence[str]) -> set[str]:
        """Have these leases last for `lease_seconds` more. Return those that are lost: they are another's by now."""

    async def release(self, holder: str) -> None:
        """Give a lease back. What is not held stays as it is."""

    async def leave(self, claim: Claim) -> None:
        """Give up a ticket. It stays if another connection has taken it over."""

    async def changed(self) -> None:
        """Wait until somebody who waits may have another place. It may also return without a reason."""


class Journal(Protocol):
    """The resumable streams of a service, whichever process has them."""

    @property
    def survives(self) -> bool:
        """Whether streams survive their process. Without that, nothing is kept, and nothing can be taken."""

    @property
    def unstored(self) -> int:
        """How many finals clients were shown that were not stored, as they could not wait."""

    def keep(self, record: Record, lost: Callable[[], object]) -> None:
        """Keep a stream that this process has begun, or taken. Never waits.

        `lost` is called, perhaps several times, when another process wants to have it, or has it.
        """

    def forget(self, record: Record) -> None:
        """Keep it up to date no longer: it has ended. Never waits."""

    def drop(self, record: Record) -> None:
        """Forget it, and have no process go on with it. Never waits."""

    async def let_go(self, record: Record) -> None:
        """Have any process go on with a stream. This one must have hung up on its upstream. Raises Away.

        Cancellation: it may have been let go, or not.
        """

    async def take(self, key: str, owner: str) -> Record | None:
        """Return the stream of a resume key, which is this process' now, to be kept; None if this owner has none.

        Raises Away, and Elsewhere if another process has it and does not let it go.

        Cancellation: it may have been taken; this process may take it again.
        """


class Shares(Protocol):
    """The transcripts that are shared, by their tokens."""

    async def announce(self, token: str) -> None:
        """Have any process find a transcript that is shared from now on: whoever is told the token may read at once.

        If that cannot be, it is found a moment after the first word. Cancellation: it may be found, or not.
        """

    def sharing(self, token: str, before: Sequence[Entry] = ()) -> AbstractContextManager[Transcript]:
        """Share a transcript for the time of a `with`; it has ended then, and stays for a while. Never waits.

        `before` are the finals so far, of a stream that another process began.
        """

    async def find(self, token: str) -> Transcript | None:
        """Return a transcript to read, whichever process its speaker is at; None if there is none. Raises Away.

        It is kept up to date for as long as it is read: `Transcript.readers`.

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
    """One more who comes: the names whose handshakes it counts towards, and those of which it takes a place each.

    Each place comes with the most that there may be, 0 for no limit.
    """

    handshakes: Sequence[str] = ()
    places: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True, slots=True)
class Excess:
    """Why one more may not come: which name has how many places, or comes too often and has to wait how long."""

    name: str
    places: int = 0
    seconds: float = 0.0


class Use(Protocol):
    """What all replicas use together."""

    async def enter(self, own: Mapping[str, int], newcomers: Sequence[Newcomer]) -> list[Excess | None]:
        """Say what this replica has, and let these enter; return what was too much for each, None if nothing was.

        `own` holds places that it has, by name, those of the newcomers left out. What it does not name stays as it was
        said before. Raises Away.

        Cancellation: it may have been done, or not.
        """
