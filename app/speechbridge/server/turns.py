"""Keeps many connections together from blocking the service: turns, and a limit of their number. Needs only the loop.

Each connection's data is parsed in slices. But if 1,500 connections send their requests at the same moment, there are
1,500 slices, and a request takes half a millisecond: nobody else was served for 0.9 s. So connections take turns: one
slice in each iteration of the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_UNADMITTED = 512  # connections, in addition to the limit of admitted ones, which may all connect at one moment


class Turns:
    """Calls waiting functions in order, one in each iteration of the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()

    def take(self, call: Callable[[], object]) -> None:
        """Have a function called in its turn."""
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
        """Close it at once."""


class Unadmitted:
    """The connections that count towards no key and no address: HTTP, and WebSockets that are being closed.

    Each takes a file descriptor and some memory, and anybody may open them. There may be `most` of them: if another one
    is added, the oldest is dropped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """Add a connection as the newest, even if it is known already."""
        self._connections.pop(connection, None)
        self._connections[connection] = None
        if len(self._connections) > self._most:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.drop()

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is known."""
        self._connections.pop(connection, None)
