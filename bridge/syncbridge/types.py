"""The types that a bridge is made and described with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Literal, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

Start = Callable[[Iterator[In]], Iterable[Out]]
"""All that is known of an SDK: input in, responses out, both as plain iterators.

Called, iterated and closed by one thread, which may block in any of the three.
"""


@dataclass(frozen=True)
class Attempt(Generic[In, Out]):
    """One stream through an SDK, not yet started: how to start it, how to wake it, how to join its input.

    A resumable stream asks `is_to_be_replaced` after each response that settles input. Where it is true, the attempt
    ends there, and the next one begins.
    """

    start: Start[In, Out]
    abort: Callable[[], object] | None = None
    join: Callable[[list[In]], In] | None = None
    _: KW_ONLY
    is_to_be_replaced: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a bridge holds, and how long leaving it waits.

    `inbound` and `outbound` count items, not bytes: the sender chooses their size. `grace` is in seconds.
    """

    inbound: int = 32  # 100 ms chunks: 3.2 s of audio, about 100 KiB at 16 kHz
    outbound: int = 256  # a guess: a minute of partials for a reader that has stopped reading
    grace: float = 5.0  # how long leaving the bridge waits for its worker

    def __post_init__(self) -> None:
        if self.inbound < 1 or self.outbound < 1:
            raise ValueError("inbound and outbound must be at least 1: nothing here is unbounded")
        if self.grace < 0:
            raise ValueError("grace must not be negative")


@dataclass(frozen=True, slots=True)
class Finished:
    """The responses came to their end, or were closed because the caller left."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The SDK raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The worker did not stop within the grace; it still runs, and this is where it stood."""

    stack: str


Direction = Literal["inbound", "outbound"]  # to the SDK, or from it

Outcome = Finished | Failed | Abandoned

State = Literal["new", "open", "draining", "cancelled", "finished", "failed", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A bridge at one moment. Items are counted where they change hands.

    Once the bridge is over, `sent - fed` inputs never reached the SDK and `yielded - received` responses never
    reached the caller: both are 0 after a graceful end.
    """

    sent: int  # inputs that `send` accepted
    fed: int  # of these, taken by the SDK
    yielded: int  # responses that the SDK gave
    received: int  # of these, handed to the caller
    inbound_depth: int
    inbound_peak: int
    outbound_depth: int
    outbound_peak: int
    state: State
