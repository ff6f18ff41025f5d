"""The listening sockets of the service. They are tried before anything else is started."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from speechbridge.cli.exits import Failed

if TYPE_CHECKING:
    from speechbridge.settings import ListenSettings

CURES = {
    errno.EADDRINUSE: "the port is taken; --port, or SPEECHBRIDGE_PORT, names another",
    errno.EACCES: "ports below 1024 need privileges; --port, or SPEECHBRIDGE_PORT, names another",
    errno.EADDRNOTAVAIL: "this machine does not have that address; --host, or SPEECHBRIDGE_HOST, names another",
    errno.EMFILE: "no file descriptor is left; raise the limit with ulimit -n",
}
BACKLOG = 2048  # connections that wait to be accepted; uvicorn's default


def try_to_listen(settings: ListenSettings) -> None:
    """Listen on the address for a moment. Raises Failed if that is not possible. May block in a DNS lookup."""
    for listener in listen(settings):
        listener.close()


def listen(settings: ListenSettings) -> list[socket.socket]:
    """Listen on every address of the host. Raises Failed. May block in a DNS lookup."""
    where = f"the service cannot start on {settings.host}:{settings.port}"
    try:
        with ExitStack() as stack:
            listeners = []
            for family, kind, protocol, _, address in socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                listener = stack.enter_context(socket.socket(family, kind, protocol))
                if os.name == "posix":  # as asyncio does: connections in TIME_WAIT do not occupy the port
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
                listener.listen(BACKLOG)  # two sockets may be bound to one address, but only one of them may listen
                listeners.append(listener)
            stack.pop_all()  # they stay open
            return listeners
    except socket.gaierror:
        raise Failed(f"{where}: there is no such host; --host, or SPEECHBRIDGE_HOST, names it") from None
    except OSError as error:
        cure = CURES.get(error.errno or 0, os.strerror(error.errno or 0))
        raise Failed(f"{where}: {cure}") from None
