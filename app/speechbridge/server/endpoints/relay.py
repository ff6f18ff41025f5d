"""A relay from one WebSocket to another: no SDK, no threads, two tasks.

The near side is our client. The far side is the server that `SPEECHBRIDGE_RELAY_URL` names; a client cannot choose it.
Messages are forwarded whole and in order, text as text and binary as binary. Back-pressure is passed on, too: each task
reads the next message only when the last one was sent. Each side has its own heartbeat.

A close is forwarded with its code and reason. Some codes only stand for a missing close frame, and must not be sent:

    the near side closed without a code (1005)    far: 1000
    the near side vanished (1006)                 far: 1001
    the far side closed without a code (1005)     near: 1000
    the far side vanished (1006)                  near: 1014
    the far side cannot be reached                near: 1014, with the reason
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed

from speechbridge.client.dial import NoConnection, dial, disconnect
from speechbridge.protocol.address import Address
from speechbridge.protocol.close import Close, CloseCode, fit_reason
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from speechbridge.settings import RelaySettings

CLOSE_SECONDS = 0.5  # to wait for the near side's close code after a send to it has failed
PATH = "/relay"
INBOUND = 4  # messages read ahead from the far side; each may have the maximum size


def router(settings: RelaySettings) -> APIRouter:
    """Make the route."""
    routes = APIRouter()
    address = Address.parse(settings.relay_url) if settings.relay_url else None

    @routes.websocket(PATH)
    async def relay(near: WebSocket) -> None:
        """Relay messages to the server that SPEECHBRIDGE_RELAY_URL names, and back."""
        if address is None:
            await near.accept()
            await near.close(CloseCode.BAD_GATEWAY, "no relay: SPEECHBRIDGE_RELAY_URL is not set")
            return
        offered = near.scope["subprotocols"] or None
        try:
            async with dial(
                address,
                open_timeout=settings.connect_seconds,
                max_size=settings.max_message_bytes,
                inbound=INBOUND,
                subprotocols=offered,
            ) as far:
                await near.accept(far.subprotocol)
                await _relay(near, far)
        except NoConnection as error:
            await near.accept()
            await near.close(CloseCode.BAD_GATEWAY, fit_reason(str(error)))

    return routes


async def _relay(near: WebSocket, far: ClientConnection) -> None:
    """Run both directions until one ends; then close the other side."""
    forward = asyncio.create_task(_forward(near, far), name="relay-forward")
    reverse = asyncio.create_task(_reverse(far, near), name="relay-reverse")
    both = {forward, reverse}
    try:
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if reverse in done and reverse.result() is None:  # the near side has left; `forward` may get its close code
            await asyncio.wait({forward}, timeout=CLOSE_SECONDS)
    finally:
        await cancel_and_wait(*both)
    close = None if reverse.cancelled() else reverse.result()
    if not forward.cancelled():
        await disconnect(far, forward.result())
    elif close is None:
        await disconnect(far, Close(CloseCode.GOING_AWAY))
    else:
        with suppress(WebSocketDisconnect, RuntimeError):  # it has left meanwhile
            await near.close(close.code, close.reason)


async def _forward(near: WebSocket, far: ClientConnection) -> Close:
    """Forward the near side's messages; return its close frame, in a form that may be sent to the far side."""
    while True:
        message = await near.receive()
        if message["type"] == "websocket.disconnect":
            substitutes: dict[int, int] = {
                CloseCode.NO_CODE: CloseCode.NORMAL,
                CloseCode.ABNORMAL: CloseCode.GOING_AWAY,
            }
            code: int = message["code"]
            return Close(substitutes.get(code, code), message.get("reason") or "")
        text = message.get("text")
        with suppress(ConnectionClosed):  # the message is dropped; the other task handles the close
            await far.send(message["bytes"] if text is None else text)


async def _reverse(far: ClientConnection, near: WebSocket) -> Close | None:
    """Forward the far side's messages; return its close frame, in a form that may be sent to the near side.

    Returns None if it is the near side that has left.
    """
    with suppress(ConnectionClosed):
        while True:
            message = await far.recv()
            try:
                if isinstance(message, str):
                    await near.send_text(message)
                else:
                    await near.send_bytes(message)
            except (WebSocketDisconnect, RuntimeError):  # starlette raises either if the near side has left
                return None
    code = int(far.close_code or CloseCode.ABNORMAL)
    if code == CloseCode.ABNORMAL:
        return Close(CloseCode.BAD_GATEWAY, "the other side vanished")
    if code == CloseCode.NO_CODE:
        return Close(CloseCode.NORMAL)
    return Close(code, far.close_reason or "")
