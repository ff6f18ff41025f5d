"""Input that may be needed again, addressed by absolute position. Pure; whoever shares one guards it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 4096  # bytes: smaller chunks are kept together, so that thousands of them cost no more


class Ring:
    """Input that may be needed again: a stretch of it, from `start` to `end`, both absolute positions.

    It starts at a multiple of `unit`.
    """

    def __init__(self, unit: int = 1) -> None:
        self.unit = unit
        self.start = 0
        self.end = 0
        self._chunks: deque[bytes] = deque()  # whole, except for the first: `start` may lie within it
        self._skip = 0

    def append(self, chunk: bytes) -> None:
        if self._chunks and len(self._chunks[-1]) < BLOCK:
            self._chunks[-1] += chunk
        elif chunk:
            self._chunks.append(chunk)
        self.end += len(chunk)

    def release(self, position: int) -> None:
        """Let go of everything before a position, in whole units."""
        position -= position % self.unit
        self.start, ahead = max(self.start, min(position, self.end - self.end % self.unit)), self.start - self._skip
        while self._chunks and ahead + len(self._chunks[0]) <= self.start:
            ahead += len(self._chunks.popleft())
        self._skip = self.start - ahead

    def chunks(self) -> Iterator[bytes]:
        """Yield what it holds, in order."""
        skip = self._skip
        for chunk in self._chunks:
            yield chunk[skip:]
            skip = 0

    def read(self, position: int) -> bytes:
        """Return what begins at a position, to the end of its chunk. Raises IndexError for what is not there."""
        if position < self.start:
            raise IndexError(f"{position} was released: the ring begins at {self.start}")
        chunk_end = self.end
        for chunk in reversed(self._chunks):  # live input is the last of them, so it is found at once
            if position >= chunk_end - len(chunk):
                return chunk[position - chunk_end :]
            chunk_end -= len(chunk)
        raise IndexError(f"{position} has not come yet: the ring ends at {self.end}")
