"""Types of the bridge's interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Literal, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

Start = Callable[[Iterator[In]], Iterable[Out]]
"""An SDK: a function that takes an iterator of input and returns an iterable of responses.

One thread calls it, iterates the responses and closes them. It may block in any of the three.
"""


@dataclass(frozen=True)
class Attempt(Generic[In, Out]):
    """One stream through an SDK, not yet started. The first three fields are arguments of `Bridge`, described there.

    A resumable stream calls `is_to_be_replaced` after each response that settles input. If it returns True, the
    attempt ends there, and the next one begins.
    """

    start: Start[In, Out]
    abort: Callable[[], object] | None = None
    join: Callable[[list[In]], In] | None = None
    _: KW_ONLY
    is_to_be_replaced: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many items a bridge queues, and how long leaving it waits.

    `inbound` and `outbound` count items, not bytes: the sender chooses their size. `grace` is in seconds.
    """

    inbound: int = 32  # 100 ms chunks: 3.2 s of audio, about 100 KiB at 16 kHz
    outbound: int = 256  # a guess: about a minute of interim results, for a reader that has stopped reading
    grace: float = 5.0  # how long leaving the bridge waits for its worker

    def __post_init__(self) -> None:
        if self.inbound < 1 or self.outbound < 1:
            raise ValueError("inbound and outbound must be at least 1")
        if self.grace < 0:
            raise ValueError("grace must not be negative")


@dataclass(frozen=True, slots=True)
class Finished:
    """The responses ended, or were closed because the caller left."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The SDK raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The worker did not stop within the grace period, and still runs. `stack` shows where it was then."""

    stack: str


Direction = Literal["inbound", "outbound"]  # to the SDK, or from it

Outcome = Finished | Failed | Abandoned

State = Literal["new", "open", "draining", "cancelled", "finished", "failed", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of a bridge's counters.

    Once the bridge is over, `sent - fed` inputs never reached the SDK, and `yielded - received` responses never
    reached the caller. Both are 0 after a graceful end.
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
