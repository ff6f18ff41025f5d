"""A WebSocket client that returns each message and close frame unchanged."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from speechbridge.protocol.close import Close
from speechbridge.protocol.request import PATH, ContentType
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUERY = f"access_token={secret()}&content_type={ContentType.raw()}"
PATIENCE = 10.0  # seconds; only a failing test waits so long


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.send = connection.send

    async def next(self) -> str | bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.connection.recv()

    async def try_to_send(self, *messages: bytes | str) -> None:
        """Send to a server that may have closed already."""
        with suppress(ConnectionClosed):
            for message in messages:
                await self.send(message)

    async def rest(self) -> tuple[list[str | bytes], Close | None]:
        """Return all further messages, and the server's close frame."""
        messages: list[str | bytes] = []
        try:
            while True:
                messages.append(await self.next())
        except ConnectionClosed as closed:
            return messages, Close(closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else None


@asynccontextmanager
async def client(url: str, query: str = QUERY, path: str = PATH) -> AsyncIterator[Client]:
    async with connect(f"{url}{path}?{query}", compression=None, proxy=None, max_size=None) as connection:
        yield Client(connection)
