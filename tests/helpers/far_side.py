"""WebSocket servers for a client, or for the service, to connect to. Tests define what they do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from websockets.asyncio.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

PATIENCE = 5.0  # seconds; nothing waits this long unless it is broken


@asynccontextmanager
async def serving(
    handler: Callable[[ServerConnection], Awaitable[None]],
    process_request: Callable[[ServerConnection, Request], Response | None] | None = None,
) -> AsyncIterator[str]:
    """Serve each stream with `handler`, which closes it by returning; yield the base URL."""
    async with serve(handler, "127.0.0.1", 0, compression=None, process_request=process_request) as server:
        host, port = next(iter(server.sockets)).getsockname()
        with anyio.fail_after(PATIENCE):
            yield f"ws://{host}:{port}"


async def hear(websocket: ServerConnection) -> bytes:
    """Read the audio to its end."""
    heard = b""
    async for message in websocket:
        if message == "EOS":
            break
        assert isinstance(message, bytes)
        heard += message
    return heard


@asynccontextmanager
async def external(answer: str | bytes | None) -> AsyncIterator[str]:
    """Run the external server of the proxy flow: it answers each question so, or closes."""

    async def behave(connection: ServerConnection) -> None:
        question = await connection.recv()
        if isinstance(answer, str):
            await connection.send(f"{answer} {question}")  # type: ignore[str-bytes-safe] # asked in text
        elif answer is not None:
            await connection.send(answer)

    async with serve(behave, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
