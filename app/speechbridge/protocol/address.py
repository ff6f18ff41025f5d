"""Parses the URL of a WebSocket service, and separates the part of it that may be shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Address:
    """A WebSocket URL. `shown` is what logs and errors may show: no path, no query, no password."""

    url: str
    shown: str
    loopback: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL with the scheme ws, wss, http or https. Raises ValueError for anything else."""
        secure = {"ws": False, "http": False, "wss": True, "https": True}
        try:
            parts = urlsplit(url)
            usable = parts.scheme in secure and parts.hostname and parts.port != 0
        except ValueError:  # a port out of range, an open bracket
            usable = False
        if not usable:
            raise ValueError("the URL is not usable: write ws://host:port or wss://host")
        scheme = "wss" if secure[parts.scheme] else "ws"
        full = parts._replace(scheme=scheme, fragment="").geturl()
        return cls(full, f"{scheme}://{parts.netloc.rpartition('@')[2]}", is_loopback(parts.hostname or ""))


def is_nearby(host: str) -> bool:
    """Tell whether a host is this machine, or in a private network, which a proxy to the internet cannot reach."""
    try:
        return ip_address(host).is_private  # also true for loopback
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
