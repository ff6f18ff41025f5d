"""Connecting: each way to fail has its error, which says what to do and shows no secret."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.server import serve

from speechbridge.client import dial as module
from speechbridge.client.dial import NoConnection, Refused, TimedOut, Unreachable, dial
from speechbridge.protocol.address import Address
from tests import helpers
from tests.helpers.secrets import everything_in, secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

SECRET = secret()
PATIENCE = 5.0  # seconds; nothing waits this long unless it is broken


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def failure(base: str, *, open_timeout: float = PATIENCE) -> NoConnection:
    """Dial with a secret in every place, and return what was raised."""
    scheme, _, rest = base.partition("://")
    with pytest.raises(NoConnection) as raised:
        async with dial(
            Address.parse(f"{scheme}://{SECRET}:{SECRET}@{rest}/path?access_token={SECRET}"), open_timeout=open_timeout
        ):
            pass
    assert SECRET not in everything_in(raised.value)
    return raised.value


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int] | OSError) -> None:
    """Let every host's name stand for these addresses, without asking anybody."""

    def look_up(*_: object, **__: object) -> list[object]:
        for address in addresses:
            if isinstance(address, OSError):
                raise address
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        return look_up()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def saying(greeting: bytes) -> AsyncIterator[int]:
    """Answer one connection with these bytes and hang up; yield the port."""
    done = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(greeting)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        done.set()

    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await done.wait()


async def test_a_host_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    error = await failure("ws://nowhere.invalid:9")
    assert isinstance(error, Unreachable)
    assert str(error) == "ws://nowhere.invalid:9: there is no such host: check the address"


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".invalid"])
async def test_an_invalid_host_name(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python finds these when it encodes the name."""

    async def getaddrinfo(name: str, *_: object, **__: object) -> list[object]:
        name.encode("idna")
        raise AssertionError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert "there is no such host" in str(await failure(f"ws://{host}:9"))


HANGING = """
import asyncio, socket, threading
from speechbridge.client.dial import NoConnection, dial
from speechbridge.protocol.address import Address

socket.getaddrinfo = lambda *_, **__: threading.Event().wait()

async def main():
    try:
        async with dial(Address.parse("ws://hangs.invalid"), open_timeout=0.2):
            pass
    except NoConnection as error:
        print(error)

asyncio.run(main())
"""


def test_a_dns_lookup_that_hangs_is_told_in_time_and_keeps_no_process_from_ending() -> None:
    """Asyncio looks names up in threads that it waits for at the end."""
    ran = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, check=False, timeout=4 * PATIENCE
    )
    assert ran.stdout == "ws://hangs.invalid did not answer within 0.2 s: try again, or check the address\n", ran.stderr


async def test_a_certificate_that_is_not_valid() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(helpers.__file__).parent / "self_signed.pem")

    async def handler(_websocket: ServerConnection) -> None:
        raise AssertionError("it must not be reached")

    async with serve(handler, "127.0.0.1", 0, ssl=context) as server:
        host, port = next(iter(server.sockets)).getsockname()
        error = await failure(f"wss://{host}:{port}")
    assert isinstance(error, Unreachable)
    assert "certificate verify failed: self-signed certificate" in str(error)
    assert str(error).endswith("check its certificate, or use ws://")


async def test_a_proxy_is_left_to_look_names_up(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    async with saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        error = await failure("ws://only-the-proxy-knows.invalid:9")
    assert "no such host" not in str(error)


async def test_a_port_on_which_nothing_listens() -> None:
    port = free_port()
    error = await failure(f"ws://127.0.0.1:{port}")
    assert isinstance(error, Unreachable)
    assert str(error) == (
        f"ws://127.0.0.1:{port} cannot be reached (Connection refused): start the service, or check the address"
    )


async def test_several_addresses_that_all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asyncio tells of them in one error, which has no number."""
    port = free_port()
    resolve_to(monkeypatch, ("127.0.0.1", port), ("127.0.0.2", port))
    error = await failure(f"ws://several.invalid:{port}")
    assert isinstance(error, Unreachable)
    assert f"ws://several.invalid:{port} cannot be reached (no connection)" in str(error)


async def test_tls_with_a_server_without_tls() -> None:
    async with saying(b"220 mail.example.com ESMTP\r\n") as port:
        error = await failure(f"wss://127.0.0.1:{port}")
    assert isinstance(error, Unreachable)
    assert str(error).startswith(f"wss://127.0.0.1:{port}: TLS failed ([SSL")
    assert str(error).endswith("check its certificate, or use ws://")


async def test_a_tls_error_that_has_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ssl.SSLError.reason` is there only where OpenSSL raised it."""

    async def connect(*_: object, **__: object) -> None:
        raise ssl.SSLError(1, "the handshake failed")

    monkeypatch.setattr(module, "connect", connect)
    assert "TLS failed (the handshake failed)" in str(await failure("wss://127.0.0.1:9"))


async def test_tls_with_a_websocket_server_without_tls() -> None:
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # it complains, rightly

    async def handler(_websocket: ServerConnection) -> None:
        pass

    async with serve(handler, "127.0.0.1", 0) as server:
        error = await failure(f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
    assert isinstance(error, Unreachable)


async def test_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        error = await failure(f"ws://127.0.0.1:{port}", open_timeout=0.05)
    assert isinstance(error, TimedOut)
    assert str(error) == f"ws://127.0.0.1:{port} did not answer within 0.05 s: try again, or check the address"


async def test_a_server_that_hangs_up() -> None:
    async with saying(b"") as port:
        error = await failure(f"ws://127.0.0.1:{port}")
    assert isinstance(error, Refused)
    assert f"ws://127.0.0.1:{port} is not a WebSocket service" in str(error)


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        (401, "check the access token"),
        (403, "check the access token"),
        (404, "there is nothing at this path"),
        (418, "check the address"),
        (429, "too many requests: try again later"),
        (500, "try again later"),
        (503, "try again later"),
    ],
)
async def test_an_http_answer_is_refused_with_its_cure(status: int, cure: str) -> None:
    def refuse(websocket: ServerConnection, request: Request) -> Response:
        return websocket.respond(HTTPStatus(status), request.path)

    async def handler(_websocket: ServerConnection) -> None:
        pass

    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
        error = await failure(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")
    assert isinstance(error, Refused)
    assert error.status == status
    assert f"refused: HTTP {status}" in str(error)
    assert cure in str(error)


async def test_an_unusable_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"gopher://{SECRET}@proxy.invalid")
    monkeypatch.delenv("no_proxy", raising=False)
    error = await failure("wss://nowhere.invalid")
    assert isinstance(error, Unreachable)
    assert "check https_proxy and no_proxy" in str(error)


async def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    error = await failure("wss://speech.example")
    assert str(error) == (
        "wss://speech.example cannot be reached through the environment's proxy (Connection refused): check"
        " https_proxy and no_proxy"
    )


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # the other side's business

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send("Hello")

    async with serve(handler, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()
        address = Address.parse(f"ws://{SECRET}:{SECRET}@{host}:{port}/path?access_token={SECRET}#{SECRET}")
        async with dial(address) as websocket:
            assert await websocket.recv() == "Hello"
    assert SECRET not in address.shown
    assert SECRET not in caplog.text
