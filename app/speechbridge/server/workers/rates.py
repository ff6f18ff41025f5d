"""Counts the traffic of each key and each address in the current second, in memory that all workers share.

The table has a row for each account and a column for each worker. A worker writes only its own cells, and adds up a
row. So no lock is needed, and nobody waits for a worker that has stopped. All workers read the machine's clock.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING

from speechbridge.server.limits import excess, pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from speechbridge.protocol.close import Close
    from speechbridge.server.limits import Kind
    from speechbridge.settings import AccessSettings, LimitSettings

CELL = 3  # numbers: the second, and the bytes and messages received in it
NUMBER = 8  # bytes


def rows_of(settings: AccessSettings) -> int:
    """Return how many accounts there may be at once: two for each connection; 0 if nothing is metered."""
    is_metered = settings.bytes_per_second or settings.messages_per_second
    return 2 * settings.most_connections if is_metered else 0


class Rates:
    """The table, in an open file without a name. Each worker maps it from the descriptor that it inherits."""

    def __init__(self, descriptor: int, rows: int, columns: int) -> None:
        self.descriptor = descriptor
        self.place = (descriptor, rows, columns)  # for a process that inherits the descriptor
        self.rows = rows
        self._row = columns * CELL
        self._map = mmap.mmap(descriptor, rows * self._row * NUMBER)
        self._cells = memoryview(self._map).cast("q")

    @classmethod
    def make(cls, rows: int, columns: int) -> Rates:
        """Make a table of zeros."""
        with tempfile.TemporaryFile() as file:
            file.truncate(rows * columns * CELL * NUMBER)
            return cls(os.dup(file.fileno()), rows, columns)

    def close(self) -> None:
        """Unmap it, and close the descriptor."""
        self._cells.release()
        self._map.close()
        os.close(self.descriptor)

    def clear(self, row: int) -> None:
        """Forget the traffic of an account that has no connections any more."""
        begin = row * self._row
        self._cells[begin : begin + self._row] = memoryview(bytes(self._row * NUMBER)).cast("q")

    def count(self, row: int, column: int, size: int, messages: int, second: int) -> tuple[int, int]:
        """Count a worker's bytes and messages; return those of all workers in this second."""
        cells, begin = self._cells, row * self._row
        own = begin + column * CELL
        if cells[own] != second:
            cells[own + 1] = cells[own + 2] = 0
            cells[own] = second
        cells[own + 1] += size
        cells[own + 2] += messages
        current = [cell for cell in range(begin, begin + self._row, CELL) if cells[cell] == second]
        return sum(cells[cell + 1] for cell in current), sum(cells[cell + 2] for cell in current)


class Metered:
    """Counts one connection's traffic, in the accounts of its key and its address."""

    def __init__(self, rates: Rates, column: int, rows: Sequence[tuple[Kind, int]], limits: LimitSettings) -> None:
        self._rates, self._column, self._rows, self._limits = rates, column, rows, limits

    def count(self, size: int, messages: int, now: float) -> Close | None:
        """Count bytes and messages at a time in seconds; return a close frame if that was too much."""
        second, verdict = int(now), None
        for kind, row in self._rows:
            verdict = (
                excess(kind, *self._rates.count(row, self._column, size, messages, second), self._limits) or verdict
            )
        return verdict

    def pause(self, size: int, now: float) -> float:
        """Count bytes of an upload at a time in seconds; return for how many seconds to stop reading it."""
        return 0.0 if self.count(size, 0, now) is None else pause(size, now, self._limits)


class Rows:
    """Assigns the table's rows to accounts, for as long as they have connections. Only the parent does."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._free = list(range(rates.rows))
        self._taken: dict[str, tuple[int, int]] = {}  # by account: the row, and the number of its connections

    def take(self, accounts: Sequence[str]) -> list[int] | None:
        """Return a row for each account, to be given back with `free`; None if there are not enough rows."""
        if len(self._free) < sum(account not in self._taken for account in accounts):
            return None
        return [self._take(account) for account in accounts]

    def free(self, accounts: Iterable[str]) -> None:
        """Give the rows of these accounts back."""
        for account in accounts:
            row, holders = self._taken[account]
            if holders > 1:
                self._taken[account] = row, holders - 1
            else:
                del self._taken[account]
                self._free.append(row)

    def _take(self, account: str) -> int:
        row, holders = self._taken.get(account) or (self._free.pop(), 0)
        if holders == 0:
            self._rates.clear(row)  # otherwise this account would be charged for the traffic of the one before
        self._taken[account] = row, holders + 1
        return row
