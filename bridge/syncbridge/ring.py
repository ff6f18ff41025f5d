"""Input that may be needed again, addressed by absolute position. Pure: not thread-safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes: smaller chunks are merged up to this size, and given again merged, so that thousands of them cost no more. A
# larger chunk is copied only where it follows a smaller one.
BLOCK = 3200


class Ring:
    """Input that may be needed again: a stretch of it, from `start` to `end`, both absolute positions.

    It starts at a multiple of `unit`.
    """

    def __init__(self, unit: int = 1) -> None:
        self.unit = unit
        self.start = 0
        self.end = 0
        self._chunks: list[bytes] = []  # whole, except for the first: `start` may lie within it
        self._skip = 0

    def append(self, chunk: bytes) -> None:
        if self._chunks and len(self._chunks[-1]) < BLOCK:
            self._chunks[-1] += chunk
        elif chunk:
            self._chunks.append(chunk)
        self.end += len(chunk)

    def release(self, position: int) -> None:
        """Drop everything before a position, in whole units."""
        position -= position % self.unit
        self.start, ahead = max(self.start, min(position, self.end - self.end % self.unit)), self.start - self._skip
        gone = 0
        while gone < len(self._chunks) and ahead + len(self._chunks[gone]) <= self.start:
            ahead += len(self._chunks[gone])
            gone += 1
        del self._chunks[:gone]
        self._skip = self.start - ahead

    def pieces(self, position: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield what it holds from a position on, in order: where each piece begins, and the piece."""
        begin = self.start - self._skip
        for chunk in self._chunks:
            end = begin + len(chunk)
            if end > position:
                first = max(begin, self.start, position)
                yield first, chunk[first - begin :]
            begin = end

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
