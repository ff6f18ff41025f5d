"""The address of a WebSocket service, taken apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Address:
    """A WebSocket URL, taken apart. `shown` is what of it may be shown."""

    url: str
    shown: str
    loopback: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL of ws, wss, http or https. Raises ValueError for what cannot be one."""
        secure = {"ws": False, "http": False, "wss": True, "https": True}
        try:
            parts = urlsplit(url)
            usable = parts.scheme in secure and parts.hostname and parts.port != 0
        except ValueError:  # a port out of range, a bracket left open
            usable = False
        if not usable:
            raise ValueError("the URL is not usable: write ws://host:port or wss://host")
        scheme = "wss" if secure[parts.scheme] else "ws"
        full = parts._replace(scheme=scheme, fragment="").geturl()
        return cls(full, f"{scheme}://{parts.netloc.rpartition('@')[2]}", is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine is meant."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
