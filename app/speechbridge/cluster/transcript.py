"""What one speaker says, for any number of readers: one list, and where each reader is in it.

A reader takes what it has not had yet, at its own pace. So a slow one holds nobody up and has no queue of its own: it
misses partials, of which only the latest is kept, and no final. Each message is put into its form once, for all.

When a message comes, the readers that wait are woken SLICE at a time, one slice in a turn of the event loop: what a
thousand readers are sent takes 50 ms, and the speaker must not wait behind them.
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

SLICE = 16  # readers woken in one turn: about 1 ms
BATCH = 64  # finals that a reader takes at once


@dataclass(slots=True)
class Position:
    """Where a reader is: how many finals it has, and which version of the latest partial."""

    finals: int = 0
    partial: int = 0


class Transcript:
    """The finals so far, the latest partial, and whether the stream has ended. For the event loop only."""

    def __init__(self, before: Iterable[Entry] = ()) -> None:
        self.finals = [*before]
        self.is_over = False
        self.is_left = False  # readers are to leave, though it goes on
        self.is_moved = False
        self.readers = 0
        self._partial: Entry | None = None
        self._partials = 0  # so many have there been
        self._version = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_waking = False

    def add(self, text: str) -> None:
        """Add what the speaker is sent. What is not a partial is kept as a final is."""
        if kind_of(text) == "partial":
            self._partials += 1
            self._partial = Entry.of(text)
        else:
            self._partial = None
            self.finals.append(Entry.of(text, len(self.finals) + 1))
        self._version += 1
        self._notify()

    def end(self) -> None:
        """Note that nothing more comes. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self._partial = None
            self._version += 1
            self._notify()

    def leave(self) -> None:
        """Have all readers leave once they have what was said so far: this process ends."""
        self.is_left = True
        self._version += 1
        self._notify()

    def move(self) -> None:
        """Have all readers leave likewise: its speaker goes on at another process."""
        self.is_moved = True
        self.leave()

    def take(self, position: Position) -> list[Entry]:
        """Return what a reader has not had yet, and move it on: finals first, then the latest partial."""
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
        """Wait until a reader has something to take; False once nothing more comes, or it is to leave.

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
        """Wake some of those who wait now, and the others in later turns. Those who come meanwhile look first."""
        for _ in range(min(SLICE, left)):
            change = self._waiting.popleft()
            if not change.done():
                change.set_result(None)
        left -= SLICE
        if left > 0:
            asyncio.get_running_loop().call_soon(self._wake, left, version)
            return
        self._is_waking = False
        if self._version != version:  # something has come since, which those who wait again have not seen
            self._notify()
