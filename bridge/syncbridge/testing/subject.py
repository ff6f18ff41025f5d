"""An adapter under test, with a service whose behaviour a check selects."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TYPE_CHECKING, Any, Generic

from syncbridge.types import Attempt, Out

if TYPE_CHECKING:
    from collections.abc import Iterator


class Behaviour(StrEnum):
    """What the service does on the first connection. On all later ones it ANSWERS."""

    ANSWERS = auto()  # an interim response to the first input; after the end of the input the last one, then it ends
    MUTE = auto()  # accepts, reads input, and sends nothing
    MUTE_AFTER_A_PARTIAL = auto()
    MUTE_AFTER_THE_END = auto()  # reads everything up to the end of the input, then sends nothing, and does not end
    DEAF = auto()  # accepts, and reads nothing: input fills the sockets' buffers, then the sender blocks
    ENDS_EARLY = auto()  # ends without an error after the first input, though more may come
    BREAKS = auto()  # a temporary error, after the first input
    REFUSES = auto()  # a permanent error, on every connection


def from_now_on(behaviour: Behaviour) -> Iterator[Behaviour]:
    """Yield the behaviour of each connection: the given one first, then ANSWERS; or REFUSES for ever."""
    yield behaviour
    while True:
        yield behaviour if behaviour is Behaviour.REFUSES else Behaviour.ANSWERS


@dataclass(frozen=True, kw_only=True)
class Subject(Generic[Out]):
    """An adapter, connected to a service.

    `connect(position)` makes one connection, whose input begins at that position of the stream, in bytes. `received` is
    called with a response. For a connection's last response, after the end of the input, it returns how many bytes the
    connection was given; for all others None. `again` decides whether another try may succeed after an error. `settled`
    is as in `Resumption`; without it, streams are not resumed. `item` is input that deserves an answer, in whole units
    of `unit` bytes. `others` are parts of the names of threads that outlive a connection on purpose: threads of the
    service, and those that the SDK keeps.
    """

    connect: Callable[[int], Attempt[bytes, Out]]
    received: Callable[[Out], int | None]
    again: Callable[[Exception], bool]
    settled: Callable[[Out, int], int | None] | None = None
    item: bytes = b"\x01" * 32000
    unit: int = 1
    others: tuple[str, ...] = ()


Opened = Callable[[Behaviour], AbstractAsyncContextManager[Subject[Any]]]
"""The argument of a check: opens a subject with a behaviour."""
