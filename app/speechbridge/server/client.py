"""A client, as a session sees it."""

from __future__ import annotations

from typing import Protocol


class ClientConnection(Protocol):
    """The client's end of a session."""

    async def receive(self) -> bytes | str | None:
        """Return the next message, or None once the client has left."""

    async def send(self, text: str) -> None:
        """Send a message. Does nothing once the client has left."""
