"""The body of an HTTP request, read as it arrives, and the answer to a request that fails before its body has ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from speechbridge.protocol.api_errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Receive, Send

STALL_SECONDS = 30.0  # to wait for the next bytes of a body
LINGER_SECONDS = 30.0  # for which the rest of a body is read and discarded, so that the client reads the error
JSON = (b"content-type", b"application/json")


class Left(Exception):
    """The client has left."""


class Body:
    """A request's body, of at most `most` bytes. One task reads it."""

    def __init__(self, receive: Receive, most: int = 0) -> None:
        self._receive = receive
        self._most = most
        self._read = 0  # bytes
        self.ended = asyncio.Event()

    async def read(self) -> bytes:
        """Return the next bytes; empty at the end. Raises Left, and ApiError if none arrive, or too many.

        Cancellation: no bytes are lost.
        """
        while not self.ended.is_set():
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                raise ApiError(408, f"nothing of the request's body came for {STALL_SECONDS:g} s") from None
            if message["type"] == "http.disconnect":
                raise Left
            if not message.get("more_body"):
                self.ended.set()
            data: bytes = message.get("body", b"")
            self._read += len(data)
            if self._read > self._most:
                raise too_large(self._most)
            if data:
                return data
        return b""

    async def discard(self, seconds: float) -> None:
        """Read and discard the rest, for at most some seconds. Cancellation: safe."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.ended.is_set():
                    message = await self._receive()
                    if not message.get("more_body"):
                        self.ended.set()

    async def until_left(self) -> None:
        """Wait until the client leaves, once the body has ended. Cancellation: safe."""
        await self.ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def too_large(most: int) -> ApiError:
    """Return the error for a body or a file of more than `most` bytes."""
    text = f"the file is larger than {most} bytes: send a smaller one, compressed or in parts"
    return ApiError(413, text, code="file_too_large", param="file")


def announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the size of a request's body in bytes, from its headers; 0 if they do not give one."""
    given = next((value for name, value in headers if name == b"content-length"), b"")
    return int(given) if given.isdigit() and len(given) < 20 else 0


async def refuse(error: ApiError, body: Body, send: Send) -> None:
    """Send an error, and discard the rest of the body for some seconds.

    To close at once would be wrong: unread bytes reset the connection, and the client may never read the error. A
    client that waits for `100 Continue` does not get it.
    """
    text = error.encode()
    headers = [JSON, (b"content-length", b"%d" % len(text)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": text, "more_body": True})
    await body.discard(LINGER_SECONDS)
    await send({"type": "http.response.body", "body": b""})
