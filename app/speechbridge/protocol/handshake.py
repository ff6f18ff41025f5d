"""The parts of a WebSocket handshake, and the service's answer to a handshake that a proxy has damaged. Pure.

Upgrade and Connection are hop-by-hop headers (RFC 9110, 7.6.1): a proxy drops them unless it is configured to forward
them. The service then sees a plain GET. It answers 426, and lists what has arrived, so that the client can compare this
with what it sent:

    this address is for WebSockets; missing from the request: Upgrade, Connection
    Host: 127.0.0.1:8000
    Origin: https://example.org
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

STATUS = 426  # Upgrade Required: RFC 9110, 15.5.22
INTRODUCTION = "this address is for WebSockets; missing from the request: "


@dataclass(frozen=True, slots=True)
class Arrived:
    """What arrived of a handshake: which parts are missing, and two headers, None if absent."""

    missing: tuple[str, ...]
    host: str | None = None
    origin: str | None = None

    @classmethod
    def of(cls, http_version: str, headers: Iterable[tuple[str, str]]) -> Self:
        """Examine a request (RFC 6455, 4.1). Header names are in lower case."""
        given: dict[str, str] = {}
        for name, value in headers:
            given[name] = f"{given[name]}, {value}" if name in given else value

        def has(name: str, token: str) -> bool:
            return token in (part.strip().lower() for part in given.get(name, "").split(","))

        present = {
            "HTTP/1.1": http_version != "1.0",
            "Upgrade": has("upgrade", "websocket"),
            "Connection": has("connection", "upgrade"),
            "Sec-WebSocket-Key": "sec-websocket-key" in given,
            "Sec-WebSocket-Version": has("sec-websocket-version", "13"),
        }
        return cls(
            tuple(name for name, is_there in present.items() if not is_there), given.get("host"), given.get("origin")
        )

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Parse the body of an answer; None if it is not an answer of this service."""
        first, *others = text.splitlines() or [""]
        if not first.startswith(INTRODUCTION):
            return None
        given = dict(line.split(": ", 1) for line in others if ": " in line)
        return cls(tuple(first.removeprefix(INTRODUCTION).split(", ")), given.get("Host"), given.get("Origin"))

    def text(self) -> str:
        """Return the body of the service's answer."""
        given = {"Host": self.host, "Origin": self.origin}
        lines = [f"{name}: {value}\n" for name, value in given.items() if value is not None]
        return "".join([f"{INTRODUCTION}{', '.join(self.missing)}\n", *lines])
