"""A client's end of a session, without a socket: a test decides what it sends, and it records what it receives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbridge.protocol.close import Close


class Peer:
    """Implements `ClientConnection` of sessions, and `Connection` of resumable streams.

    A test can clear `reads`: then `send` waits, as with the full socket of a client that does not read.
    """

    def __init__(self) -> None:
        self.got: list[str] = []
        self.close_frame: Close | None = None
        self.closed_cleanly = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._messages: asyncio.Queue[bytes | str | Exception | None] = asyncio.Queue()

    def say(self, *messages: bytes | str) -> None:
        for message in messages:
            self._messages.put_nowait(message)

    def leave(self, *, cleanly: bool = False) -> None:
        self.closed_cleanly = cleanly
        self._messages.put_nowait(None)

    def fail(self, error: Exception) -> None:
        """Make `receive` raise an unexpected error."""
        self._messages.put_nowait(error)

    async def receive(self) -> bytes | str | None:
        message = await self._messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, text: str) -> None:
        await self.reads.wait()
        self.got.append(text)

    async def close(self, close: Close) -> None:
        self.close_frame = close
