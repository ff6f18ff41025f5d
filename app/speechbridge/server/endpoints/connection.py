"""The server's interface to a client's WebSocket, for sessions, flows and resumable streams."""

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
        self.closed_cleanly = False  # the client has left with a close frame of code 1000 or 1001
        self._left = False
        self._unread: deque[bytes | str] = deque()

    async def receive(self) -> bytes | str | None:
        """Return the next message, None once the client has left. Cancellation: no message is lost."""
        if self._unread:
            return self._unread.popleft()
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":  # if the gate sent this, the client can still be sent messages
            self.closed_cleanly = message.get("code") in (CloseCode.NORMAL, CloseCode.GOING_AWAY)
            return None
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    def unread(self, messages: Iterable[bytes | str]) -> None:
        """Put messages back, so that `receive` returns them first, in this order."""
        self._unread.extendleft(reversed([*messages]))

    async def send(self, text: str) -> None:
        """Send a message. Does nothing once the client has left. Cancellation: the message may have been sent."""
        if not self._left:
            try:
                await self._socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):  # starlette raises either if the client has left
                self._left = True

    async def close(self, close: Close) -> None:
        """Close the WebSocket. Does nothing once the client has left."""
        with suppress(WebSocketDisconnect, RuntimeError):  # starlette raises either if the client has left
            await self._socket.close(close.code, close.reason)


class EventWriter:
    """Writes JSON objects to a connection, for several tasks. The events of one call stay together."""

    def __init__(self, connection: ClientConnection, encode: Callable[[Mapping[str, Any]], str]) -> None:
        self._connection = connection
        self._encode = encode
        self._turn = asyncio.Lock()

    async def write(self, *events: Mapping[str, Any]) -> None:
        """Send events. Cancellation: some of them may have been sent."""
        async with self._turn:
            for event in events:
                await self._connection.send(self._encode(event))
