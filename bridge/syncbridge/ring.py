"""Input that may be needed again, addressed by absolute position. Pure: not thread-safe."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# In bytes. Smaller chunks are merged up to this size, so that thousands of tiny ones cost no more to keep and replay.
# A larger chunk is copied only if it follows a smaller one.
BLOCK = 3200


class Ring:
    """A replay buffer: the input from `start` to `end`, both absolute positions.

    `start` is a multiple of `unit`. Finding a position takes a binary search.
    """

    def __init__(self, unit: int = 1) -> None:
        self.unit = unit
        self.start = 0
        self.end = 0
        self._chunks: list[bytes] = []
        self._begins: list[int] = []  # the position of each chunk; `start` may lie within the first

    def append(self, chunk: bytes) -> None:
        if self._chunks and len(self._chunks[-1]) < BLOCK:
            self._chunks[-1] += chunk
        elif chunk:
            self._chunks.append(chunk)
            self._begins.append(self.end)
        self.end += len(chunk)

    def release(self, position: int) -> None:
        """Drop everything before a position, in whole units."""
        position = min(position, self.end)
        self.start = max(self.start, position - position % self.unit)
        gone = len(self._chunks) if self.start == self.end else self._index(self.start)
        del self._chunks[:gone], self._begins[:gone]

    def pieces(self, position: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield the input from a position on, piece by piece: the position of each piece, and the piece."""
        position = max(position, self.start)
        for index in range(self._index(position), len(self._chunks)):
            begin, chunk = self._begins[index], self._chunks[index]
            first = max(begin, position)
            if first < begin + len(chunk):
                yield first, chunk[first - begin :]

    def read(self, position: int) -> bytes:
        """Return the input from a position to the end of the chunk it lies in. Raises IndexError if it is not there."""
        if position < self.start:
            raise IndexError(f"position {position} was released: the ring begins at {self.start}")
        if position >= self.end:
            raise IndexError(f"position {position} is not there yet: the ring ends at {self.end}")
        index = self._index(position)
        return self._chunks[index][position - self._begins[index] :]

    def _index(self, position: int) -> int:
        """Return the index of the chunk in which a position lies; of the last chunk for a position after its end."""
        if self._begins and position >= self._begins[-1]:
            return len(self._begins) - 1  # live input is in the last chunk
        return max(0, bisect_right(self._begins, position) - 1)
