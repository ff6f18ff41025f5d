"""Runs the server: it starts, handles signals, drains its sessions, and ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from speechbridge.server.http import HttpProtocol
from speechbridge.server.meter import LARGER
from speechbridge.server.turns import MOST_UNADMITTED, Turns, Unadmitted
from speechbridge.server.websocket import Config, NotStarted, UvicornServer, WebSocketProtocol
from speechbridge.settings import split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from fastapi import FastAPI

    from speechbridge.server.session import Sessions
    from speechbridge.settings import Settings

PING_SECONDS = 20.0  # between two pings, and for a pong: a vanished client is noticed within 40 s
STALL_SECONDS = 30.0  # that sent data may stay unacknowledged, or a client's receive window may stay closed
INTERRUPT_SECONDS = 3.0  # limit of the drain after Ctrl-C, because a person is waiting


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of the event loop: uvloop's, if that is installed."""
    return Config("", log_config=None).get_loop_factory()


def freeze() -> None:
    """Exclude all objects that exist after start-up from garbage collection, because they stay anyway.

    Otherwise a full collection examines them every few dozen sessions, which is a tenth of the CPU time of a session's
    start and end.
    """
    gc.collect()
    gc.freeze()


class ServiceFailed(Exception):
    """The service could not start. The log has the details."""


class Server:
    """One service. At a signal, and at `stop`, it drains its sessions before it closes any connection.

    With `hand_on` it is one of several processes: it does not listen, but serves the connections that `take` is given.
    `hand_on` is called at each WebSocket's handshake, and returns whether another process has taken the connection.
    `over` is called when a connection has ended.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        *,
        takes_signals: bool = True,
        hand_on: Callable[[HttpProtocol], bool] | None = None,
        over: Callable[[], object] = lambda: None,
    ) -> None:
        self.app = app
        self.sessions: Sessions = app.state.sessions
        self.has_started = asyncio.Event()
        self._sockets: list[socket.socket] = []
        self._interrupted = False
        unadmitted = Unadmitted(MOST_UNADMITTED + settings.most_connections)
        http = partial(HttpProtocol, turns=Turns(), unadmitted=unadmitted, over=over, hand_on=hand_on)
        ws = partial(
            WebSocketProtocol, closed=app.state.metrics.closed, over=over, turns=Turns(), unadmitted=unadmitted
        )
        self._listens = hand_on is None
        self._config = Config(
            app,
            host=settings.host,
            port=settings.port,
            http=http,  # type: ignore[arg-type] # it is called as a class is
            ws=ws,  # type: ignore[arg-type] # likewise
            ws_max_size=LARGER * settings.max_message_bytes,  # the most that an endpoint may allow
            ws_per_message_deflate=False,  # speech does not compress, and trying would take most of a session's CPU
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            forwarded_allow_ips=split(settings.trusted_proxies),
            log_config=None,
            access_log=False,  # sessions log their own beginning and end; health checks would fill the log
            timeout_graceful_shutdown=2,  # sessions are drained before; a relay closes within 1.5 s
        )
        self._uvicorn = UvicornServer(
            self._config,
            started=self._on_started,
            drain=self._drain,
            signalled=self._on_signal if takes_signals else None,
        )
        logger = logging.getLogger("uvicorn.error")
        logger.setLevel(max(logging.INFO, logging.getLogger().level))  # at DEBUG it logs headers, keys included

    @property
    def url(self) -> str:
        """The WebSocket URL at which it listens, once it has started."""
        host, port = self._sockets[0].getsockname()[:2]
        return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    @property
    def connections(self) -> set[Any]:
        """The protocols of all connections, HTTP and WebSocket."""
        return self._uvicorn.connections

    async def serve(self) -> None:
        """Serve until a signal or `stop`. Raises ServiceFailed if it cannot start."""
        try:
            with self._without_known_tracebacks():
                await self._uvicorn.serve(None if self._listens else [])
        except NotStarted as failure:
            if failure.in_lifespan and self.app.state.failure is not None:
                raise ServiceFailed(f"{self.app.state.failure}") from None
            if failure.in_lifespan:
                raise ServiceFailed("the service cannot start: the reason is in the log above") from None
            where = f"{self._config.host}:{self._config.port}"
            cure = "is the port taken? --port, or SPEECHBRIDGE_PORT, names another"
            raise ServiceFailed(f"the service cannot start on {where}: {cure}") from None

    @contextmanager
    def _without_known_tracebacks(self) -> Iterator[None]:
        """Keep uvicorn from logging the traceback of a failure that is reported in one line."""

        def is_unknown(record: logging.LogRecord) -> bool:
            return self.app.state.failure is None or record.levelno < logging.ERROR

        logger = logging.getLogger("uvicorn.error")
        logger.addFilter(is_unknown)
        try:
            yield
        finally:
            logger.removeFilter(is_unknown)

    async def take(self, connection: socket.socket, head: bytes = b"") -> None:
        """Serve a connection that another process has accepted. Raises OSError if the connection is broken.

        If that process has read a request's `head` already, the connection is not handed on again.
        """
        await self._uvicorn.take(connection, head, **({"hand_on": None} if head else {}))

    def stop(self) -> None:
        """Begin to drain the sessions, and then end. Idempotent, never waits."""
        self._uvicorn.end()

    def _on_started(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        for listening in sockets:
            bound_stalls(listening)
        self.has_started.set()

    def _on_signal(self, sig: int) -> None:
        self._interrupted = sig == signal.SIGINT

    async def _drain(self) -> None:
        drain = asyncio.create_task(self.sessions.drain(INTERRUPT_SECONDS if self._interrupted else None))
        while not drain.done():
            if self._uvicorn.force_exit:
                drain.cancel()
            await asyncio.wait({drain}, timeout=0.1)


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[Server]:
    """Serve in the caller's event loop, within the context. Leaving it drains the sessions.

    Raises ServiceFailed if it cannot start; the log says why. Cancellation: drains the sessions, too.
    """
    server = Server(app, settings, takes_signals=False)
    serving = asyncio.create_task(server.serve(), name="server")
    started = asyncio.create_task(server.has_started.wait(), name="server-started")
    try:
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await serving
            raise ServiceFailed("the service did not start")
        yield server
    finally:
        started.cancel()
        server.stop()
        await asyncio.gather(serving, started, return_exceptions=True)


def bound_stalls(listening: socket.socket) -> None:
    """Have the kernel drop a client that stops reading, or vanishes while we send. Accepted sockets inherit this.

    Otherwise its connection would stay for ever: the close waits for data that is still to be sent, and that data waits
    for the client. Linux only. Elsewhere the pings detect such a client, a little later.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_SECONDS * 1000))
