"""The transcript of one speaker, for any number of readers: one list, and each reader's position in it.

A reader takes the entries that it has not had yet, at its own pace. So a slow reader delays nobody and needs no queue
of its own: it misses partials, of which only the latest is kept, but no final. Each message is encoded once, for all
readers.

When a message arrives, the waiting readers are woken SLICE at a time, one slice in each iteration of the event loop.
Sending to a thousand readers takes 50 ms, and the speaker must not wait that long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import kind_of
from speechbridge.protocol.reading import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

SLICE = 16  # readers woken in one iteration of the event loop: about 1 ms
BATCH = 64  # finals that a reader takes at once


@dataclass(slots=True)
class Position:
    """A reader's position: how many finals it has, and the number of the last partial that it has."""

    finals: int = 0
    partial: int = 0


class Transcript:
    """The finals so far, the latest partial, and whether the stream has ended. For the event loop only."""

    def __init__(self, before: Iterable[Entry] = ()) -> None:
        self.finals = [*before]
        self.is_over = False
        self.is_left = False  # readers must leave this process, though the stream goes on
        self.is_moved = False  # the stream goes on at another process
        self.readers = 0
        self.stored: int | None = None  # how many finals other processes know; None: there are none
        self._partial: Entry | None = None
        self._partials = 0  # the number of partials so far
        self._version = 0  # counts changes
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_waking = False

    def add(self, text: str) -> None:
        """Add a message to the speaker. Everything but a partial is kept, like a final."""
        if kind_of(text) == "partial":
            self._partials += 1
            self._partial = Entry.of(text)
        else:
            self._partial = None
            self.finals.append(Entry.of(text, len(self.finals) + 1))
        self._version += 1
        self._notify()

    def end(self) -> None:
        """Note that the stream has ended. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self._partial = None
            self._version += 1
            self._notify()

    def leave(self) -> None:
        """Have all readers leave once they have all messages so far, because this process ends."""
        self.is_left = True
        self._version += 1
        self._notify()

    def move(self) -> None:
        """Have all readers leave in the same way, because the stream goes on at another process."""
        self.is_moved = True
        self.leave()

    def take(self, position: Position) -> list[Entry]:
        """Return the next entries for a reader, finals first, then the latest partial; advance its position."""
        if position.finals < len(self.finals):
            found = self.finals[position.finals : position.finals + BATCH]
            position.finals += len(found)
            return found
        if self._partial is not None and position.partial < self._partials:
            position.partial = self._partials
            return [self._partial]
        return []

    def has_more(self, position: Position) -> bool:
        """Tell whether `take` would return anything."""
        return position.finals < len(self.finals) or (self._partial is not None and position.partial < self._partials)

    async def more(self, position: Position) -> bool:
        """Wait until there is something for a reader to take. Returns False once the stream is over, or it must leave.

        Cancellation: safe.
        """
        while not self.has_more(position):
            if self.is_over or self.is_left:
                return False
            change = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            await change
        return True

    def _notify(self) -> None:
        if not self._is_waking and self._waiting:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._wake, len(self._waiting), self._version)

    def _wake(self, left: int, version: int) -> None:
        """Wake one slice of the waiting readers, and schedule the next slice.

        A reader that begins to wait meanwhile has checked for messages itself.
        """
        for _ in range(min(SLICE, left)):
            change = self._waiting.popleft()
            if not change.done():
                change.set_result(None)
        left -= SLICE
        if left > 0:
            asyncio.get_running_loop().call_soon(self._wake, left, version)
            return
        self._is_waking = False
        if self._version != version:  # changed since: readers that wait again may have missed it
            self._notify()
