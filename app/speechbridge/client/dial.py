"""Connecting to a WebSocket server: for the client, the relay and the proxy flow.

The only import of websockets' client.

Exceptions:

    NoConnection
    ├── Unreachable   the address is wrong, nothing listens there, or TLS fails
    ├── Refused       a server answered, but not with a WebSocket: an HTTP error, or another kind of service
    └── TimedOut      no answer arrived in time

Each error text says what to do. None shows the query or the password of a URL: they may hold access tokens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidProxy, InvalidStatus, WebSocketException
from websockets.typing import Origin

from speechbridge.blocking import in_own_thread
from speechbridge.protocol.address import Address, is_nearby
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from websockets.exceptions import ConnectionClosed
    from websockets.typing import Subprotocol

OPEN_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 1.5  # seconds for the other side to answer our close frame
INBOUND = 16  # messages read ahead
# Bytes of the kernel's send buffer, which the kernel doubles: 4 s of 16 kHz audio. Measured on Linux, with and without
# this limit: 0.28 MB and 8.3 MB in flight to a reader that has stopped; 1.6 MB and 10.4 MB to a slow one (64 kB/s).
SEND_BUFFER = 64 * 1024
SHOWN_BODY = 1024  # bytes of an HTTP response's body that an error keeps
PING_INTERVAL = 20.0  # seconds: many proxies drop connections that are idle for 60
PING_TIMEOUT = 60.0  # seconds. A ping waits behind the audio in flight, and a busy service reads slowly

_log = logging.getLogger(f"{__name__}.websockets")
_log.setLevel(logging.INFO)  # at DEBUG it writes the request line, with the access token


class NoConnection(Exception):
    """No WebSocket connection could be made. The text says why, and what to do."""


class Unreachable(NoConnection):
    """No server was reached."""


class Refused(NoConnection):
    """A server answered, but not with a WebSocket.

    `status` and `body` are those of its HTTP response, the body truncated; None and empty if it did not speak HTTP.
    """

    def __init__(self, text: str, status: int | None = None, body: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.body = body


class TimedOut(NoConnection):
    """No answer arrived in time."""


def service_address(base: str, path: str) -> Address:
    """Return an endpoint of the service at a base URL. Raises Unreachable for an unusable base."""
    if "?" in base or "#" in base:
        raise Unreachable("the service's URL is not usable: leave out its query")
    try:
        return Address.parse(base.rstrip("/") + path)
    except ValueError as error:
        raise Unreachable(str(error)) from None


@asynccontextmanager
async def dial(  # noqa: PLR0913 # all but the first have defaults
    address: Address,
    *,
    open_timeout: float = OPEN_TIMEOUT,
    max_size: int | None = 2**20,
    inbound: int = INBOUND,
    subprotocols: Sequence[Subprotocol] | None = None,
    origin: str | None = None,
    ping_interval: float | None = PING_INTERVAL,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket for the time of an `async with`.

    The connection goes through the proxy that the environment names, unless the host is on this machine or in a
    private network.

    `open_timeout` is in seconds, from the DNS lookup to the end of the handshake; `max_size` is in bytes per message;
    `inbound` is the number of messages read ahead. To behave as a browser does, pass the `origin` of its page, and
    None as `ping_interval`: browsers send no pings. `tls` replaces the default verification of certificates.

    Raises NoConnection.

    Cancellation: while opening, the connection is dropped; while leaving, it is closed without waiting for an answer.
    """
    trust: dict[str, Any] = {"ssl": tls} if tls is not None and address.url.startswith("wss:") else {}
    try:
        async with asyncio.timeout(open_timeout):
            await _look_up(address)
            websocket = await connect(
                address.url,
                open_timeout=None,  # the timeout above covers the handshake, too
                compression=None,  # audio does not get smaller
                proxy=None if is_nearby(urlsplit(address.url).hostname or "") else True,
                ping_interval=ping_interval,
                ping_timeout=PING_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                max_size=max_size,
                max_queue=inbound,
                subprotocols=subprotocols,
                origin=Origin(origin) if origin is not None else None,
                logger=_log,
                **trust,
            )
    # `from None` everywhere: the errors of websockets, and their contexts, may show the URL.
    except TimeoutError:
        text = f"{address.shown} did not answer within {open_timeout:g} s: try again, or check the address"
        raise TimedOut(text) from None
    except (socket.gaierror, UnicodeError):  # UnicodeError: an empty label, or one that is too long
        raise Unreachable(f"{address.shown}: there is no such host: check the address") from None
    except ssl.SSLError as error:
        raise Unreachable(
            f"{address.shown}: TLS failed ({error.strerror}): check its certificate, or use ws://"
        ) from None
    except OSError as error:
        # asyncio's own text repeats the address. If several addresses failed, there is no errno.
        why = os.strerror(error.errno) if error.errno else "no connection"
        text = f"{address.shown} cannot be reached ({why}): start the service, or check the address"
        if _is_proxied(address):
            text = (
                f"{address.shown} cannot be reached through the environment's proxy ({why}): check https_proxy and"
                " no_proxy"
            )
        raise Unreachable(text) from None
    except InvalidStatus as error:
        status, body = error.response.status_code, (error.response.body or b"")[:SHOWN_BODY]
        text = f"{address.shown} refused: {_http_advice(status)}"
        raise Refused(text, status, bytes(body).decode(errors="replace")) from None
    except InvalidProxy:
        raise Unreachable("the environment's proxy is not usable: check https_proxy and no_proxy") from None
    except WebSocketException as error:
        text = f"{address.shown} is not a WebSocket service ({type(error).__name__}): check the address"
        raise Refused(text) from None
    # Limit the data in flight: pings and the end of the input wait behind it.
    websocket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    try:
        yield websocket
    finally:
        await disconnect(websocket)


async def disconnect(websocket: ClientConnection, close: Close | None = None) -> None:
    """Close a connection within CLOSE_TIMEOUT, whether the other side answers or not. Idempotent.

    Cancellation: the connection is dropped at once.
    """
    close = close or Close(1000)
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await websocket.close(close.code, close.reason)
    except TimeoutError:
        pass  # websockets limits its wait for the peer's close frame, but not its wait until it can send its own
    finally:
        websocket.transport.abort()  # has no effect once it is closed
        await websocket.wait_closed()


async def _look_up(address: Address) -> None:
    """Wait until a host name can be resolved. Raises socket.gaierror or UnicodeError if it cannot.

    A lookup cannot be interrupted, so it runs in a thread of its own, which may outlive this call. Its result is in
    the resolver's cache when asyncio repeats the lookup.

    Cancellation: safe.
    """
    parts = urlsplit(address.url)
    host = parts.hostname or ""
    if address.loopback or _is_ip_address(host) or _is_proxied(address):
        return  # there is no name to look up, or the proxy looks it up
    port = parts.port or parts.scheme.replace("ws", "http")
    await in_own_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), "dns-lookup")


def _is_proxied(address: Address) -> bool:
    """Tell whether websockets connects through a proxy that the environment names. It ignores all_proxy."""
    parts = urlsplit(address.url)
    host = parts.hostname or ""
    schemes = ("wss", "socks", "https") if parts.scheme == "wss" else ("ws", "socks", "https", "http")
    return not is_nearby(host) and not getproxies().keys().isdisjoint(schemes) and not proxy_bypass(host)


def _is_ip_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def close_of(closed: ConnectionClosed) -> Close:
    """Return the close frame with which the peer ended a connection; 1006 if it sent none."""
    return Close(closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else Close(CloseCode.ABNORMAL)


def _http_advice(status: int) -> str:
    match status:
        case 401 | 403:
            return f"HTTP {status}: check the access token, and whether the service admits you"
        case 404:
            return f"HTTP {status}: there is nothing at this path: check the address"
        case 429:
            return f"HTTP {status}: too many requests: try again later"
        case _ if status >= 500:
            return f"HTTP {status}: the service, or a proxy in front of it, failed: try again later"
    return f"HTTP {status}: check the address"
