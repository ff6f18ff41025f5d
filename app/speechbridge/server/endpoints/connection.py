"""A client's WebSocket as a session, a flow and a resumable stream see it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi import WebSocket, WebSocketDisconnect

from speechbridge.protocol.close import CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from speechbridge.protocol.close import Close
    from speechbridge.server.client import ClientConnection


class WebSocketConnection:
    """A client's WebSocket. Implements `ClientConnection` of sessions and `Connection` of resumable streams."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self.closed_cleanly = False  # the client left with a close frame that says so
        self._left = False
        self._unread: deque[bytes | str] = deque()

    async def receive(self) -> bytes | str | None:
        """Return the next message, None once the client has left. Cancellation: no message is lost."""
        if self._unread:
            return self._unread.popleft()
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":  # or the gate says so; then what is sent still reaches the client
            self.closed_cleanly = message.get("code") in (CloseCode.NORMAL, CloseCode.GOING_AWAY)
            return None
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    def unread(self, messages: Iterable[bytes | str]) -> None:
        """Have these messages come first, in this order, to the next who receives."""
        self._unread.extendleft(reversed([*messages]))

    async def send(self, text: str) -> None:
        """Send a message. Does nothing once the client has left. Cancellation: the message may have been sent."""
        if not self._left:
            try:
                await self._socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):  # starlette's two ways to say that it has left
                self._left = True  # `receive` tells how

    async def close(self, close: Close) -> None:
        """Close the WebSocket. Does nothing once the client has left."""
        with suppress(WebSocketDisconnect, RuntimeError):  # starlette's two ways to say that it has left
            await self._socket.close(close.code, close.reason)


class EventWriter:
    """Writes JSON objects to a connection. Several tasks may; what one call gets stays together, in order of calls."""

    def __init__(self, connection: ClientConnection, encode: Callable[[Mapping[str, Any]], str]) -> None:
        self._connection = connection
        self._encode = encode
        self._turn = asyncio.Lock()

    async def tell(self, *events: Mapping[str, Any]) -> None:
        """Send events. Cancellation: some of them may have been sent."""
        async with self._turn:
            for event in events:
                await self._connection.send(self._encode(event))
