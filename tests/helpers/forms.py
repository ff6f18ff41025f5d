"""Forms with a file, as clients send them, and the service's answers."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx2

from speechbridge.protocol.transcriptions import PATH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from speechbridge.server.run import Server

BOUNDARY = "---------------------------9051914041544843365972754266"  # as Firefox writes it
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
MODEL = ("model", "whisper-1")

Part = tuple[str, str | bytes]
"""A field; or, with bytes, the file."""


def part(name: str, value: str | bytes) -> bytes:
    """Write one part, up to its value."""
    named = f'Content-Disposition: form-data; name="{name}"'
    head = named if isinstance(value, str) else f'{named}; filename="a.bin"\r\nContent-Type: application/octet-stream'
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + (value.encode() if isinstance(value, str) else value)


def form(*parts: Part) -> bytes:
    return b"".join(part(*one) + b"\r\n" for one in parts) + f"--{BOUNDARY}--\r\n".encode()


def audio(data: bytes, *fields: tuple[str, str]) -> Sequence[Part]:
    """Return the parts in the order in which OpenAI's Python client sends them."""
    return [MODEL, *fields, ("file", data)]


@cache
def certificates() -> ssl.SSLContext:
    """Return what a client would read anew: it takes longer than most requests."""
    return ssl.create_default_context()


@asynccontextmanager
async def web(server: Server, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    url = server.url.replace("ws://", "http://")
    async with httpx2.AsyncClient(base_url=url, headers=headers, verify=certificates()) as client:
        yield client


async def post(server: Server, parts: Sequence[Part], **headers: str) -> httpx2.Response:
    """Send a form."""
    async with web(server, **headers) as client:
        return await client.post(PATH, content=form(*parts), headers={"content-type": TYPE})


def error(response: httpx2.Response) -> dict[str, Any]:
    """Check that an error has OpenAI's form, and return it."""
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"]
    return found
