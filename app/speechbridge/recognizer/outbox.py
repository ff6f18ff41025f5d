"""The queue of hypotheses that a client has not read yet.

A hypothesis replaces a partial that is still in the queue. Finals stay; while there are `MOST` of them, no more audio
is taken. So the queue is bounded even for a client that does not read.
"""

from __future__ import annotations

import asyncio
from collections import deque

from speechbridge.protocol.messages import Final, Partial

MOST = 8  # finals


class Outbox:
    """A queue with one writer and one reader, in one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Partial | Final] = deque()
        self._is_over = False
        self._changed = asyncio.Event()

    def put(self, hypothesis: Partial | Final) -> None:
        """Add a hypothesis. It replaces a partial at the end of the queue."""
        if self._waiting and isinstance(self._waiting[-1], Partial):
            self._waiting.pop()
        self._waiting.append(hypothesis)
        self._changed.set()

    def end(self) -> None:
        """Mark the end: nothing more will be added."""
        self._is_over = True
        self._changed.set()

    async def get(self) -> Partial | Final | None:
        """Return the next hypothesis, or None at the end. Cancellation: nothing is lost."""
        while not self._waiting:
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        taken = self._waiting.popleft()
        self._changed.set()
        return taken

    async def room(self) -> None:
        """Wait until there is room for a final. Cancellation: safe."""
        while len(self._waiting) >= MOST:
            self._changed.clear()
            await self._changed.wait()
