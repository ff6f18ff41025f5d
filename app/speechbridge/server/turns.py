"""What keeps many connections from taking what one of them could not: turns, and a bound. Pure, but for the loop.

Each connection is parsed in slices. But 1,500 connections whose requests arrive at one moment are 1,500 slices, and a
request costs half a millisecond: nobody else was served for 0.9 s. So they take turns, one slice in a turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_UNADMITTED = 512  # connections, and as many as may be admitted, which may all come at one moment


class Turns:
    """Calls what waits, in order, one in each turn of the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()

    def take(self, call: Callable[[], object]) -> None:
        """Have this called in its turn."""
        self._waiting.append(call)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        call = self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
        call()


class Connection(Protocol):
    """A connection that can be dropped."""

    def drop(self) -> None:
        """End it at once."""


class Unadmitted:
    """The connections that no limit of a key or an address counts: HTTP, and WebSockets that are being closed.

    Each costs a descriptor and some memory, and anybody may open them. At most `most` stay: one more, and the oldest is
    dropped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """Add a connection as the newest, also if it is known already."""
        self._connections.pop(connection, None)
        self._connections[connection] = None
        if len(self._connections) > self._most:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.drop()

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is known."""
        self._connections.pop(connection, None)
