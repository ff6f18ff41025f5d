"""The service on a free port, with uvicorn and a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn.server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from speechbridge.protocol.close import Close
from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from speechbridge.recognizer.server import serving
from speechbridge.server import create_app
from speechbridge.server.run import Server, running
from speechbridge.server.websocket import WebSocketProtocol
from speechbridge.settings import Settings
from tests.helpers.secrets import check_for_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from fastapi import FastAPI
    from websockets.asyncio.client import ClientConnection

    from speechbridge.engines import Engine
    from speechbridge.recognizer.server import Handler

PATIENCE = 5.0  # seconds; nothing waits this long unless it is broken
STREAM = f"{PATH}?{StreamRequest(ContentType.raw()).query()}"


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / 10)


# At its end uvicorn sleeps for 0.1 s, and again until all connections are closed: hundreds of tests would wait for it.
vars(uvicorn.server)["asyncio"] = SimpleNamespace(**{**vars(asyncio), "sleep": _sleep})


def quiet(audio: Iterator[bytes]) -> Iterator[str]:
    """An SDK that takes all audio and answers nothing."""
    for _ in audio:
        pass
    yield from ()


@asynccontextmanager
async def service(
    stream_client_start: Callable[..., Iterable[str]] | None = quiet, **settings: object
) -> AsyncIterator[Server]:
    """Serve with a stub in place of the SDK; with None, with the engine of the settings."""
    chosen = Settings.read(port=0, **settings)
    async with _served(create_app(chosen, stream_client_start=stream_client_start), chosen) as server:
        yield server


@asynccontextmanager
async def service_of(engine: Engine, **settings: object) -> AsyncIterator[Server]:
    """Serve with an engine of the test's own."""
    chosen = Settings.read(port=0, **settings)
    async with _served(create_app(chosen, engine=engine), chosen) as server:
        yield server


@asynccontextmanager
async def _served(app: FastAPI, settings: Settings) -> AsyncIterator[Server]:
    async with running(app, settings) as server:
        yield server
    check_for_secrets("metrics", app.state.metrics.text().decode())


@asynccontextmanager
async def service_before(upstream: Handler, **settings: float) -> AsyncIterator[Server]:
    """Serve with an upstream of the test's own in place of Rev.ai, and with short timeouts for it."""
    # The first must be enough for a connect under load; the second, for all faults after the end of the input together.
    timeouts = {"connect_seconds": 1.0, "answer_seconds": 5.0, "upstream_silence": 0.3} | settings
    async with (
        serving(upstream, handshake_timeout=None) as running_upstream,
        service(None, revai_url=running_upstream.url, **timeouts) as server,
    ):
        yield server


def drop_streams(server: Server) -> None:
    """Break the connection of every WebSocket, without a close frame."""
    for found in server.connections:
        if isinstance(found, WebSocketProtocol):
            found.transport.abort()


@asynccontextmanager
async def client(server: Server, path: str = "/ws_a", **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(server.url + path, compression=None, close_timeout=PATIENCE, **options) as socket:
        with anyio.fail_after(PATIENCE):
            yield socket


async def ending(socket: ClientConnection) -> tuple[list[str | bytes], Close]:
    """Read up to the close frame; return the messages and the close."""
    messages = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(await socket.recv())
    return messages, Close(socket.close_code or 0, socket.close_reason or "")
