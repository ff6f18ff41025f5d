"""Counts the traffic of each key and each address in the current second, in memory that all workers share.

The table has a row for each account and a column for each worker. A worker writes only its own cells, and adds up a
row. So no lock is needed, and nobody waits for a worker that has stopped. All workers read the machine's clock.

There is one more column. Into that the parent writes what other replicas have received (`server.traffic`). So a worker
adds it to the sum of the row. Each column has two cells in a row, for even and for odd seconds: the parent reads what
was received in the last second, while workers count the current one.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING

from speechbridge.cluster import Traffic
from speechbridge.server.limits import RECENT_SECONDS, excess, pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from speechbridge.protocol.close import Close
    from speechbridge.server.limits import Kind
    from speechbridge.settings import AccessSettings, LimitSettings

CELL = 3  # numbers: the second, and the bytes and messages received in it
PAIR = 2 * CELL  # the cells of even and of odd seconds
NUMBER = 8  # bytes


def rows_of(settings: AccessSettings) -> int:
    """Return how many accounts there may be at once: two for each connection; 0 if nothing is metered."""
    is_metered = settings.bytes_per_second or settings.messages_per_second
    return 2 * settings.most_connections if is_metered else 0


class Rates:
    """The table, in an open file without a name. Each worker maps it from the descriptor that it inherits.

    `columns` is the number of workers. `offset` is added to the machine's clock: the sum numbers the seconds.
    """

    def __init__(self, descriptor: int, rows: int, columns: int, offset: float = 0.0) -> None:
        self.descriptor = descriptor
        self.rows = rows
        self.offset = offset
        self._columns = columns
        self._row = _row(columns)
        self._map = mmap.mmap(descriptor, rows * self._row * NUMBER)
        self._cells = memoryview(self._map).cast("q")

    @classmethod
    def make(cls, rows: int, columns: int) -> Rates:
        """Make a table of zeros."""
        with tempfile.TemporaryFile() as file:
            file.truncate(rows * _row(columns) * NUMBER)
            return cls(os.dup(file.fileno()), rows, columns)

    @property
    def place(self) -> tuple[int, int, int, float]:
        """The arguments with which a process that inherits the descriptor opens the table."""
        return self.descriptor, self.rows, self._columns, self.offset

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
        """Count a worker's bytes and messages; return those of all workers and other replicas in this second."""
        cells, own = self._cells, self._cell(row, column, second)
        if cells[own] != second:
            cells[own + 1] = cells[own + 2] = 0
            cells[own] = second
        cells[own + 1] += size
        cells[own + 2] += messages
        return self._total(row, self._columns + 1, second)

    def received(self, row: int, second: int) -> Traffic:
        """Return what all workers received in the current second, or in the one before."""
        return Traffic(*self._total(row, self._columns, second))

    def is_recent(self, row: int, second: int) -> bool:
        """Tell whether there was any traffic in the RECENT_SECONDS before a second, or since then."""
        begin = row * self._row
        return max(self._cells[begin : begin + self._columns * PAIR : CELL]) >= second - RECENT_SECONDS

    def add_others(self, row: int, second: int, traffic: Traffic) -> None:
        """Count what other replicas have received as if workers had received it in this second."""
        cells, cell = self._cells, self._cell(row, self._columns, second)
        cells[cell] = 0  # a worker that adds up now must not take the new numbers for those of an earlier second
        cells[cell + 1], cells[cell + 2] = traffic
        cells[cell] = second

    def _cell(self, row: int, column: int, second: int) -> int:
        return row * self._row + column * PAIR + second % 2 * CELL

    def _total(self, row: int, columns: int, second: int) -> tuple[int, int]:
        cells, first, size, messages = self._cells, self._cell(row, 0, second), 0, 0
        for cell in range(first, first + columns * PAIR, PAIR):
            if cells[cell] == second:
                size += cells[cell + 1]
                messages += cells[cell + 2]
        return size, messages


def _row(columns: int) -> int:
    """Return how many numbers a row has."""
    return (columns + 1) * PAIR


class Metered:
    """Counts one connection's traffic, in the accounts of its key and its address."""

    def __init__(self, rates: Rates, column: int, rows: Sequence[tuple[Kind, int]], limits: LimitSettings) -> None:
        self._rates, self._column, self._rows, self._limits = rates, column, rows, limits

    def count(self, size: int, messages: int, now: float) -> Close | None:
        """Count bytes and messages at a time in seconds; return a close frame if that was too much."""
        second, verdict = int(now + self._rates.offset), None
        for kind, row in self._rows:
            verdict = (
                excess(kind, *self._rates.count(row, self._column, size, messages, second), self._limits) or verdict
            )
        return verdict

    def pause(self, size: int, now: float) -> float:
        """Count bytes of an upload at a time in seconds; return for how many seconds to stop reading it."""
        return 0.0 if self.count(size, 0, now) is None else pause(size, now + self._rates.offset, self._limits)


class Rows:
    """Assigns the table's rows to accounts, for as long as they have connections. Only the parent does.

    It implements `traffic.OwnTraffic`: the traffic of each account that has a row.
    """

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

    def align(self, offset: float) -> None:
        self._rates.offset = offset

    def received(self, second: int) -> dict[str, Traffic]:
        recent = {account: row for account, (row, _) in self._taken.items() if self._rates.is_recent(row, second)}
        return {account: self._rates.received(row, second) for account, row in recent.items()}

    def add_others(self, second: int, others: Mapping[str, Traffic]) -> None:
        for account, traffic in others.items():
            if account in self._taken:
                self._rates.add_others(self._taken[account][0], second, traffic)

    def _take(self, account: str) -> int:
        row, holders = self._taken.get(account) or (self._free.pop(), 0)
        if holders == 0:
            self._rates.clear(row)  # otherwise this account would be charged for the traffic of the one before
        self._taken[account] = row, holders + 1
        return row
