"""A client that shares its transcript: each message of its session also goes to its readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbridge.cluster.transcript import Transcript
    from speechbridge.server.client import ClientConnection


class Sharing:
    """A client's connection, and the transcript that others read. Implements `ClientConnection`."""

    def __init__(self, connection: ClientConnection, transcript: Transcript) -> None:
        self._connection = connection
        self._transcript = transcript

    async def receive(self) -> bytes | str | None:
        return await self._connection.receive()

    async def send(self, text: str) -> None:
        """Send a message, to the readers first, so that they need not wait for a speaker that does not read."""
        self._transcript.add(text)
        await self._connection.send(text)
