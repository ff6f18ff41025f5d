"""A client's WebSocket as a session sees it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi import WebSocket, WebSocketDisconnect

from speechbridge.protocol.close import CloseCode

if TYPE_CHECKING:
    from speechbridge.protocol.close import Close


class WebSocketConnection:
    """A client's WebSocket as a session sees it."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self.closed_cleanly = False  # the client left with a close frame that says it meant to
        self._gone = False

    async def receive(self) -> bytes | str | None:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":  # or told so: the gate may still pass on our last words
            self.closed_cleanly = message.get("code") in (CloseCode.NORMAL, CloseCode.GOING_AWAY)
            return None
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def send(self, text: str) -> None:
        if not self._gone:
            try:
                await self._socket.send_text(text)
            except (WebSocketDisconnect, RuntimeError):  # starlette's two ways to say that it has left; `receive` tells
                self._gone = True

    async def close(self, close: Close) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # it left first; starlette says so in one of these ways
            await self._socket.close(close.code, close.reason)
