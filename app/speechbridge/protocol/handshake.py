"""What makes a request a WebSocket handshake, and how a service tells what a proxy has made of one. Pure.

Upgrade and Connection are hop-by-hop headers (RFC 9110, 7.6.1): a proxy drops them unless it is told to pass them on.
The service then sees a plain GET. It answers 426, and says what has arrived: the client knows what it has sent.

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
SAYING = "this address is for WebSockets; missing from the request: "


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has arrived of a request: the parts of a handshake that are missing, and two headers, None if absent."""

    missing: tuple[str, ...]
    host: str | None = None
    origin: str | None = None

    @classmethod
    def of(cls, http_version: str, headers: Iterable[tuple[str, str]]) -> Self:
        """Look at a request (RFC 6455, 4.1). Header names are in lower case."""
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
        """Read the text of a service's answer; None if it is another text, so not a service's."""
        first, *others = text.splitlines() or [""]
        if not first.startswith(SAYING):
            return None
        given = dict(line.split(": ", 1) for line in others if ": " in line)
        return cls(tuple(first.removeprefix(SAYING).split(", ")), given.get("Host"), given.get("Origin"))

    def text(self) -> str:
        """Return the text of the service's answer."""
        given = {"Host": self.host, "Origin": self.origin}
        lines = [f"{name}: {value}\n" for name, value in given.items() if value is not None]
        return "".join([f"{SAYING}{', '.join(self.missing)}\n", *lines])
