"""Live speech over WebSockets: the public names of the client.

    from speechbridge import ContentType, StreamRequest, connect

Each is loaded when it is first used, so that importing one part of this package does not load the others. The service
is made by `speechbridge.server.create_app`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbridge.client.dial import NoConnection, Refused, TimedOut, Unreachable
    from speechbridge.client.flows import Busy, Failed, flows
    from speechbridge.client.resumable import connect_resumable
    from speechbridge.client.stream import Broken, Closed, StreamError, Unreadable, connect
    from speechbridge.protocol.close import Close, CloseCode
    from speechbridge.protocol.messages import Connected, Element, Final, Partial, Queued
    from speechbridge.protocol.request import ContentType, StreamRequest

    __version__: str

__all__ = [
    "Broken",
    "Busy",
    "Close",
    "CloseCode",
    "Closed",
    "Connected",
    "ContentType",
    "Element",
    "Failed",
    "Final",
    "NoConnection",
    "Partial",
    "Queued",
    "Refused",
    "StreamError",
    "StreamRequest",
    "TimedOut",
    "Unreachable",
    "Unreadable",
    "__version__",
    "connect",
    "connect_resumable",
    "flows",
]

_HOMES = {
    "client.dial": ("NoConnection", "Refused", "TimedOut", "Unreachable"),
    "client.flows": ("Busy", "Failed", "flows"),
    "client.resumable": ("connect_resumable",),
    "client.stream": ("Broken", "Closed", "StreamError", "Unreadable", "connect"),
    "protocol.close": ("Close", "CloseCode"),
    "protocol.messages": ("Connected", "Element", "Final", "Partial", "Queued"),
    "protocol.request": ("ContentType", "StreamRequest"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            value = _version()
        elif name in _HOME:
            value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 # it takes longer to load than the rest of this module

    try:
        return metadata.version("live-speech-bridge")  # the distribution's name in pyproject.toml
    except metadata.PackageNotFoundError:  # it runs from its sources, and is not installed
        return "unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
