"""An HTTP proxy in front of a service, with mistakes for tests: it edits headers, and closes idle connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SELF_SIGNED = Path(__file__).parent / "self_signed.pem"
EXPIRED = Path(__file__).parent / "expired.pem"

Edit = Callable[[list[str]], list[str]]
"""Changes the lines of a request's head."""


def passing(lines: list[str]) -> list[str]:
    """Pass a request's head on unchanged."""
    return lines


def dropping(*names: str) -> Edit:
    """Drop headers of a request."""
    return lambda lines: [line for line in lines if line.partition(":")[0].lower() not in names]


def replacing(name: str, value: str) -> Edit:
    """Rewrite a header of a request."""
    return lambda lines: [f"{name}: {value}" if line.lower().startswith(f"{name.lower()}:") else line for line in lines]


def by_http_1_0(lines: list[str]) -> list[str]:
    """Speak HTTP/1.0 to the service, as nginx does by default."""
    return [lines[0].replace("HTTP/1.1", "HTTP/1.0"), *dropping("upgrade", "connection")(lines[1:])]


class _Proxy:
    def __init__(self, target: str, edit: Edit, idle: float | None) -> None:
        parts = urlsplit(target)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.edit = edit
        self.idle = idle
        self.tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            upstream_reader, upstream_writer = await asyncio.open_connection(self.host, self.port)
            try:
                lines = self.edit(head.rstrip("\r\n").split("\r\n"))
                upstream_writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
                await self.pump(reader, upstream_writer, upstream_reader, writer)
            finally:
                upstream_writer.close()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.tasks.discard(task)

    async def pump(
        self,
        client: asyncio.StreamReader,
        to_upstream: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
    ) -> None:
        """Pass bytes both ways until one side ends, or both are idle for `idle` seconds."""
        reading = {asyncio.ensure_future(client.read(4096)): (client, to_upstream)}
        reading[asyncio.ensure_future(upstream.read(4096))] = (upstream, to_client)
        try:
            while True:
                done, _ = await asyncio.wait(reading, timeout=self.idle, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    return
                for task in done:
                    source, sink = reading.pop(task)
                    data = task.result()
                    if not data:
                        return
                    sink.write(data)
                    await sink.drain()
                    reading[asyncio.ensure_future(source.read(4096))] = (source, sink)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


@asynccontextmanager
async def proxy(
    target: str,
    edit: Edit = passing,
    *,
    idle: float | None = None,
    certificate: Path | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[str]:
    """Put a proxy in front of the service at `target`; yield its URL, https:// if it has a certificate.

    `edit` changes the lines of each request's head. A connection that is idle for `idle` seconds is closed.
    """
    carrier = _Proxy(target, edit, idle)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    server = await asyncio.start_server(carrier.accept, host, 0, ssl=context)
    scheme = "http" if context is None else "https"
    try:
        yield f"{scheme}://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in carrier.tasks:
            task.cancel()
        await asyncio.gather(*carrier.tasks, return_exceptions=True)
        await server.wait_closed()
