"""A TCP proxy that breaks each connection after a given number of bytes, wherever in a message that is."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FOR_EVER = struct.pack("ii", 1, 0)  # SO_LINGER that makes a close an RST


class Wire:
    """Passes bytes both ways to `target`. `lives()` gives the number of bytes that a connection lasts."""

    def __init__(self, target: str, lives: Callable[[], int | None]) -> None:
        self.url = ""
        self.cuts = 0
        self.target = target  # may change: the next connections go there
        self._lives = lives
        self._carrying: set[asyncio.Task[None]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        left = self._lives()
        host, _, port = self.target.removeprefix("ws://").rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))

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

        both = {asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for end in (writer, far_writer):
                if left == 0:
                    with suppress(OSError):
                        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FOR_EVER)
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
