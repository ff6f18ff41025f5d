"""A worker: `python -m speechbridge.server.workers DESCRIPTOR`. Only its parent starts it: `workers.supervisor`.

It imports everything that it needs, and then waits for its name.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from speechbridge import cores, logs
from speechbridge.server import create_app
from speechbridge.server.run import Server, ServiceFailed, freeze, loop_factory
from speechbridge.server.workers.link import Link
from speechbridge.settings import Settings, WrongSetting
from speechbridge.tasks import cancel_and_wait


class Worker:
    """The service, except for the parent's tasks."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._link = Link(taken=self._take, orphaned=self._orphaned)
        self._server: Server | None = None
        self._taking: set[asyncio.Task[None]] = set()

    async def run(self) -> bool:
        """Serve until the parent ends it, or is gone. If it cannot start, report that and return False."""
        self._link.open(self._end)
        self._link.loaded()
        if not await self._link.named():
            return True
        if self._link.core is not None:
            cores.keep_to(self._link.core)
        try:
            settings = self._link.limits = Settings.read()
            logs.configure(settings.log_level, settings.log_format, worker=self._link.name)
            server = self._server = Server(
                create_app(settings, worker=self._link), settings, hand_on=self._link.hand_on, over=self._link.over
            )
            freeze()
            announcing = asyncio.create_task(self._announce(server))
            try:
                await server.serve()
            finally:
                await cancel_and_wait(announcing, *self._taking)
        except (ServiceFailed, WrongSetting) as error:
            self._link.failed(str(error), is_wrong=isinstance(error, WrongSetting))
            return False
        finally:
            self._link.close()
        return True

    async def _announce(self, server: Server) -> None:
        await server.has_started.wait()
        self._link.ready()

    def _take(self, connection: socket.socket, head: bytes) -> None:
        task = asyncio.create_task(self._serve(connection, head), name="take")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _serve(self, connection: socket.socket, head: bytes) -> None:
        assert self._server is not None  # noqa: S101 # connections come only after `ready`
        try:
            await self._server.take(connection, head)
        except OSError:  # the client has left meanwhile
            connection.close()
            self._link.over()
        finally:
            self._link.took()

    def _orphaned(self) -> None:
        """End as after SIGTERM, because the parent was killed."""
        if self._server is not None:
            self._server.stop()


def main() -> None:
    """Run a worker until its parent ends it."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    worker = Worker(socket.socket(fileno=descriptor))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        is_well = runner.run(worker.run())
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
