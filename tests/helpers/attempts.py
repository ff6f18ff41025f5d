"""Attempts for a resumable stream. The input is a known pattern, so it is known which bytes each attempt must get."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncbridge import Attempt, Early, Resumption, Stuck

if TYPE_CHECKING:
    from collections.abc import Iterator

PATTERN = bytes(range(251)) * 1000  # 251 is prime: a wrong offset shows


class Break(Exception):
    """The connection broke."""


class Refusal(Exception):
    """A permanent error."""


@dataclass(frozen=True)
class Final:
    """The input between two positions."""

    start: int
    text: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass
class Fault:
    """Break an attempt after so many bytes, at the end of its input, or while it connects; by default not at all.

    Without an error the responses just end.
    """

    after: int | None = None
    at_end: bool = False
    connecting: bool = False
    error: Exception | None = field(default_factory=Break)


class Sdk:
    """Yields a final for each `final_every` bytes, and one for the rest. Each attempt breaks according to its fault."""

    def __init__(self, faults: list[Fault], final_every: int = 10, *, counts_from_its_own_start: bool = False) -> None:
        self._faults = iter(faults)
        self._final_every = final_every
        self._counts_from_its_own_start = counts_from_its_own_start
        self.given: list[tuple[int, bytes]] = []
        self.final_until: int | None = None  # the position after which there are no more finals

    def connect(self, position: int) -> Attempt[bytes, Final | str]:
        fault = next(self._faults, Fault())
        if fault.connecting and fault.error:
            raise fault.error
        return Attempt(lambda feed: self._listen(feed, position, fault))

    def _listen(self, feed: Iterator[bytes], position: int, fault: Fault) -> Iterator[Final | str]:
        received, settled, total = b"", 0 if self._counts_from_its_own_start else position, 0
        for chunk in feed:
            self.given.append((position + total, chunk))
            total += len(chunk)
            received += chunk
            if fault.after is not None and total >= fault.after:
                if fault.error:
                    raise fault.error
                return
            yield "partial"
            while len(received) >= self._final_every and (self.final_until is None or settled < self.final_until):
                yield Final(settled, received[: self._final_every])
                received, settled = received[self._final_every :], settled + self._final_every
        if fault.at_end and fault.error:
            raise fault.error
        if received:
            yield Final(settled, received)


def rules(**changed: object) -> Resumption[Final | str]:
    defaults: dict[str, object] = {
        "settled": lambda response, _begun: response.end if isinstance(response, Final) else None,
        "again": lambda error: isinstance(error, Break | Early | Stuck),
        "pause": lambda _failures: 0.0,
        "room": 2**20,
    }
    return Resumption(**(defaults | changed))  # type: ignore[arg-type]


def cut(total: int, sizes: list[int]) -> Iterator[bytes]:
    position = 0
    for size in itertools.cycle([*sizes, 1]):
        if position >= total:
            return
        yield PATTERN[position : min(position + size, total)]
        position += min(size, total - position)


def finals(responses: Iterator[Final | str]) -> list[Final]:
    return [response for response in responses if isinstance(response, Final)]
