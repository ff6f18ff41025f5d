"""An adapter before a service that behaves as a check asks for."""

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

    ANSWERS = auto()  # an interim response to the first input; once the input has ended, the last one, and a good end
    MUTE = auto()  # accepts, takes input, and says nothing
    MUTE_AFTER_A_PARTIAL = auto()
    MUTE_AFTER_THE_END = auto()  # takes everything up to the end of the input, then says nothing, and does not end
    DEAF = auto()  # accepts, and takes no input: what is sent waits in sockets, and then the sender does
    ENDS_EARLY = auto()  # a good end after the first input, though more may come
    BREAKS = auto()  # an error that may pass, after the first input
    REFUSES = auto()  # an error that will not pass, on every connection


def from_now_on(behaviour: Behaviour) -> Iterator[Behaviour]:
    """Yield how each connection behaves: as told at first, well afterwards; one that refuses goes on refusing."""
    yield behaviour
    while True:
        yield behaviour if behaviour is Behaviour.REFUSES else Behaviour.ANSWERS


@dataclass(frozen=True, kw_only=True)
class Subject(Generic[Out]):
    """An adapter before a service.

    `connect(position)` makes one connection, whose input begins at that position of the stream, in bytes. `heard` tells
    of a response how many bytes its connection was given, if it is the last one, after the end of the input; None for
    all others. `again` tells after which errors another try may succeed. `settled` is as in `Resumption`; without it,
    streams are not resumed. `item` is input that deserves an answer, of whole units of `unit` bytes. `others` are parts
    of the names of threads that outlive a connection on purpose: the service's, and those that the SDK keeps.
    """

    connect: Callable[[int], Attempt[bytes, Out]]
    heard: Callable[[Out], int | None]
    again: Callable[[Exception], bool]
    settled: Callable[[Out, int], int | None] | None = None
    item: bytes = b"\x01" * 32000
    unit: int = 1
    others: tuple[str, ...] = ()


Opened = Callable[[Behaviour], AbstractAsyncContextManager[Subject[Any]]]
"""What a check is given."""
