"""Opening a WebSocket to somebody else: for the client, the relay and the proxy flow.

The only import of websockets' client.

What is raised, and when:

    NoConnection
    ├── Unreachable   wrong address, nobody there, no TLS
    ├── Refused       an answer, but no WebSocket: an HTTP error, or another kind of service
    └── TimedOut      no answer in time

Each text names the cure. None holds a URL's query or password: access tokens are in there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidProxy, InvalidStatus, WebSocketException

from speechbridge.protocol.address import Address
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from websockets.exceptions import ConnectionClosed
    from websockets.typing import Subprotocol

OPEN_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 1.5  # seconds of waiting for the other side's goodbye
INBOUND = 16  # messages read ahead
# Bytes in the kernel, which doubles it: 4 s of 16 kHz audio. Measured on Linux, beside the kernel's own choice: 0.28 MB
# under way towards a reader that stalls, not 8.3 MB; 1.6 MB towards a slow one (64 kB/s), not 10.4 MB.
SEND_BUFFER = 64 * 1024
PING_INTERVAL = 20.0  # seconds: proxies commonly drop what is silent for 60
PING_TIMEOUT = 60.0  # seconds. A ping waits behind the audio on its way, and a busy service reads slowly

_log = logging.getLogger(f"{__name__}.websockets")
_log.setLevel(logging.INFO)  # at DEBUG it writes the request line, with the access token


class NoConnection(Exception):
    """There is no WebSocket to whom was dialled. Its text says why and what to do."""


class Unreachable(NoConnection):
    """There is no connection."""


class Refused(NoConnection):
    """Somebody answered, but not with a WebSocket."""


class TimedOut(NoConnection):
    """No answer came in time."""


def service_address(base: str, path: str) -> Address:
    """Return an endpoint of the service at a base URL. Raises Unreachable for a base that cannot be one."""
    if "?" in base or "#" in base:
        raise Unreachable("the service's URL is not usable: leave out its query")
    try:
        return Address.parse(base.rstrip("/") + path)
    except ValueError as error:
        raise Unreachable(str(error)) from None


@asynccontextmanager
async def dial(
    address: Address,
    *,
    open_timeout: float = OPEN_TIMEOUT,
    max_size: int | None = 2**20,
    inbound: int = INBOUND,
    subprotocols: Sequence[Subprotocol] | None = None,
) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket for the time of an `async with`. The environment's proxies are used, except towards loopback.

    `open_timeout` is in seconds, `max_size` in bytes a message, `inbound` in messages read ahead. Raises NoConnection.

    Cancellation: while opening, the connection is dropped; on leaving, the farewell is cut short.
    """
    try:
        websocket = await connect(
            address.url,
            open_timeout=open_timeout,
            compression=None,  # audio does not shrink
            proxy=None if address.loopback else True,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            max_size=max_size,
            max_queue=inbound,
            subprotocols=subprotocols,
            logger=_log,
        )
    # `from None` throughout: websockets' own errors and their contexts may hold the URL.
    except TimeoutError:
        text = f"{address.shown} did not answer within {open_timeout:g} s: try again, or check the address"
        raise TimedOut(text) from None
    except (socket.gaierror, UnicodeError):  # UnicodeError: a label that is empty or too long
        raise Unreachable(f"{address.shown}: there is no such host: check the address") from None
    except ssl.SSLError as error:
        raise Unreachable(f"{address.shown}: no TLS ({error.strerror}): check its certificate, or use ws://") from None
    except OSError as error:
        # asyncio's own text repeats the address. Of several addresses that failed it tells no number.
        why = os.strerror(error.errno) if error.errno else "no connection"
        text = f"{address.shown} cannot be reached ({why}): start the service, or check the address"
        raise Unreachable(text) from None
    except InvalidStatus as error:
        raise Refused(f"{address.shown} refused: {_http_cure(error.response.status_code)}") from None
    except InvalidProxy:
        raise Unreachable("the proxy of the environment is not usable: check https_proxy and no_proxy") from None
    except WebSocketException as error:
        raise Refused(f"{address.shown} is no WebSocket service ({type(error).__name__}): check the address") from None
    # What is under way must stay little: pings and the end of the input queue up behind it.
    websocket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    try:
        yield websocket
    finally:
        await hang_up(websocket)


async def hang_up(websocket: ClientConnection, close: Close | None = None) -> None:
    """Say goodbye, and be gone within CLOSE_TIMEOUT, answered or not. Idempotent."""
    close = close or Close(1000)
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await websocket.close(close.code, close.reason)
    except TimeoutError:
        pass  # websockets bounds the other side's answer, but not its own waiting for room on the wire
    finally:
        websocket.transport.abort()  # no effect on a closed one
        await websocket.wait_closed()


def close_of(closed: ConnectionClosed) -> Close:
    """Return how the other side ended a connection; 1006 if it sent no close frame."""
    return Close(closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else Close(CloseCode.ABNORMAL)


def _http_cure(status: int) -> str:
    match status:
        case 401 | 403:
            return f"HTTP {status}: check the access token, and that the service accepts you"
        case 404:
            return f"HTTP {status}: nothing listens on that path: check the address"
        case 429:
            return f"HTTP {status}: too many requests: try again later"
        case _ if status >= 500:
            return f"HTTP {status}: the service, or the proxy before it, is not well: try again later"
    return f"HTTP {status}: check the address"
