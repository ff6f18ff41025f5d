"""The messages of one WebSocket that its application has not taken yet."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A small asyncio.Queue for one reader, which also shows whether that reader waits.

    It has no bound. Instead, its user stops reading the connection while `is_awaited` is false.
    """

    def __init__(self) -> None:
        self._messages: list[T] = []
        self._arrival: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether it is empty, and the reader waits for the next message."""
        return self._arrival is not None and not self._arrival.done()

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: T) -> None:
        self._messages.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def get(self) -> T:
        """Wait for the next message, and take it. Cancellation: no message was taken."""
        while not self._messages:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._messages.pop(0)
