"""One WebSocket to another: no SDK, no threads, two tasks.

The near side is our client, the far side the server that `SPEECHBRIDGE_RELAY_URL` names; a client can never name it.
Messages pass whole and in order, text as text and binary as binary. Whoever is slow slows the other down: each task
reads its next message when its last one has been taken. Each leg has pings of its own.

Closing is passed on with code and reason. Three codes stand for the lack of a close frame and may not be sent:

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

from speechbridge.client.dial import NoConnection, dial, hang_up
from speechbridge.protocol.address import Address
from speechbridge.protocol.close import Close, CloseCode, fit_reason

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

FAREWELL = 0.5  # seconds for the near side's close code to come, once a send to it has failed
INBOUND = 4  # messages read ahead from the far side: what a slow client may cost, with the largest message


def router(url: str, *, open_timeout: float, max_size: int) -> APIRouter:
    """Make the route to `url`; empty means that nobody set one. `max_size` is in bytes a message."""
    routes = APIRouter()
    address = Address.parse(url) if url else None

    @routes.websocket("/relay")
    async def relay(near: WebSocket) -> None:
        """Relay to the server that SPEECHBRIDGE_RELAY_URL names, and back."""
        if address is None:
            await near.accept()
            await near.close(CloseCode.BAD_GATEWAY, "no relay: SPEECHBRIDGE_RELAY_URL is not set")
            return
        offered = near.scope["subprotocols"] or None
        try:
            async with dial(
                address, open_timeout=open_timeout, max_size=max_size, inbound=INBOUND, subprotocols=offered
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
        if reverse in done and reverse.result() is None:  # the near side has left; the other task may know how
            await asyncio.wait({forward}, timeout=FAREWELL)
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    close = None if reverse.cancelled() else reverse.result()
    if not forward.cancelled():
        await hang_up(far, forward.result())
    elif close is None:
        await hang_up(far, Close(CloseCode.GOING_AWAY))
    else:
        with suppress(WebSocketDisconnect, RuntimeError):  # it left in the same moment
            await near.close(close.code, close.reason)


async def _forward(near: WebSocket, far: ClientConnection) -> Close:
    """Pass on what the near side says; return how it went, in terms that the far side may be told."""
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
        with suppress(ConnectionClosed):  # the other task is told why; here is only nothing to send to
            await far.send(message["bytes"] if text is None else text)


async def _reverse(far: ClientConnection, near: WebSocket) -> Close | None:
    """Pass on what the far side says; return how it went, in terms that the near side may be told.

    None if it is the near side that has left.
    """
    with suppress(ConnectionClosed):
        while True:
            message = await far.recv()
            try:
                if isinstance(message, str):
                    await near.send_text(message)
                else:
                    await near.send_bytes(message)
            except (WebSocketDisconnect, RuntimeError):  # starlette's two ways to say that it has left
                return None
    code = int(far.close_code or CloseCode.ABNORMAL)
    if code == CloseCode.ABNORMAL:
        return Close(CloseCode.BAD_GATEWAY, "the other side vanished")
    if code == CloseCode.NO_CODE:
        return Close(CloseCode.NORMAL)
    return Close(code, far.close_reason or "")
