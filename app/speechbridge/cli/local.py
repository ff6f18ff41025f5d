"""Which service a command uses: the one at --url, the one on this machine, or one that it starts for itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from speechbridge.cli.exits import BadInput, Failed
from speechbridge.cli.output import notice
from speechbridge.protocol.address import Address
from speechbridge.protocol.request import PATH
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ENDPOINTS = (PATH, "/ws_a", "/ws", "/relay")
ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 # to connect to a service that listens on all addresses

Url = Annotated[
    str | None,
    typer.Option(help="Service to use, as ws://host:port; without it, the one on this machine.", show_default=False),
]


@asynccontextmanager
async def service(url: str | None) -> AsyncIterator[str]:
    """Yield the base URL of the service at `url`, or else of the one on this machine.

    If none listens on this machine, at SPEECHBRIDGE_HOST and SPEECHBRIDGE_PORT, a service runs on a free port for the
    time of the context.

    Raises BadInput, WrongSetting and Failed.

    Cancellation: that service is stopped.
    """
    if url:
        yield base_of(url)
        return
    settings = Settings.read()
    local = local_url(settings)
    if await _listens(local):
        yield local
        return
    from speechbridge.server import create_app  # noqa: PLC0415 # slow to load, and only needed here
    from speechbridge.server.run import ServiceFailed, running  # noqa: PLC0415 # the same

    notice(f"no service listens on port {settings.port}; running one for this command")
    own = settings.for_this_machine()
    try:
        async with running(create_app(own), own) as server:
            yield server.url
    except ServiceFailed as error:
        raise Failed(str(error)) from None


def base_of(url: str) -> str:
    """Return the base URL for what the user gave: a base URL, the URL of an endpoint, or just host and port."""
    url = url.strip()
    if "://" not in url:
        url = f"ws://{url}"
    url = url.rstrip("/")
    endpoint = next((endpoint for endpoint in ENDPOINTS if url.endswith(endpoint)), "")
    url = reachable(url.removesuffix(endpoint).rstrip("/"))
    if "?" in url or "#" in url:
        raise BadInput("--url: leave out what begins with ? or #; a key belongs into SPEECHBRIDGE_KEY")
    try:
        Address.parse(url)
    except ValueError as error:
        raise BadInput(f"--url: {error}") from None
    return url


def local_url(settings: Settings) -> str:
    """Return the URL for this machine of a service with these settings."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return reachable(f"ws://{host}:{settings.port}")


def reachable(url: str) -> str:
    """Return the URL for this machine of a service that listens at `url`, which may stand for all addresses."""
    scheme, _, rest = url.partition("://")
    for every, loopback in ANY.items():
        if rest == every or rest.startswith((f"{every}:", f"{every}/")):
            return f"{scheme}://{loopback}{rest.removeprefix(every)}"
    return url


def own_key() -> str:
    """Return the API key that our commands send; empty if none is set."""
    return Settings.read().key.get_secret_value()


async def _listens(url: str) -> bool:
    address = url.partition("://")[2]
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
