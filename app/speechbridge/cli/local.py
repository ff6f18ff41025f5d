"""The service on this machine: the one that runs already, or one for as long as a command needs it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from speechbridge.server.app import create_app
from speechbridge.server.run import running
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def local_service() -> AsyncIterator[str]:
    """Yield the base URL of the service at SPEECHBRIDGE_HOST and SPEECHBRIDGE_PORT.

    If nobody listens there, one is run on a free port meanwhile, and said so on stderr. Raises WrongSetting and
    ServiceFailed. Cancellation: the one that was run is ended.
    """
    settings = Settings.read()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 # to reach it, not to listen
    if await _listens(host, settings.port):
        yield f"ws://[{host}]:{settings.port}" if ":" in host else f"ws://{host}:{settings.port}"
        return
    sys.stderr.write(f"speechbridge: no service listens on port {settings.port}; running one for this\n")
    own = settings.for_this_machine()
    async with running(create_app(own), own) as server:
        yield server.url


def own_key() -> str:
    """Return the API key that our commands come in with, wherever they go; empty if none is set."""
    return Settings.read().key.get_secret_value()


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
