"""A TCP proxy that breaks each connection after a given number of bytes, anywhere within a message."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

RST_ON_CLOSE = struct.pack("ii", 1, 0)  # the value for SO_LINGER


class Wire:
    """Passes bytes both ways to `target`. `lives()` returns how many bytes a connection lasts, None for no limit."""

    def __init__(self, target: str, lives: Callable[[], int | None]) -> None:
        self.url = ""
        self.cuts = 0
        self.target = target  # a test may change it, for later connections
        self._lives = lives
        self._carrying: set[asyncio.Task[None]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        left = self._lives()
        host, _, port = self.target.removeprefix("ws://").rpartition(":")
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            nonlocal left
            while data := await source.read(4096):
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                sink.write(data)
                await sink.drain()
                if left == 0:
                    self.cuts += 1
                    return

        both = {asyncio.create_task(pump(reader, upstream_writer)), asyncio.create_task(pump(upstream_reader, writer))}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for end in (writer, upstream_writer):
                if left == 0:
                    with suppress(OSError):
                        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until its connections have ended."""
        await asyncio.gather(*self._carrying, return_exceptions=True)


@asynccontextmanager
async def cut_wire(target: str, lives: Callable[[], int | None]) -> AsyncIterator[Wire]:
    """Put the proxy in front of the service at `target`, `ws://host:port`."""
    wire = Wire(target, lives)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        await wire.wait_closed()
        await server.wait_closed()
