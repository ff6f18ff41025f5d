"""The query of a URL. Pure."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST = 200  # parameters; the rest of a query is not read


# At a handshake several parts of the service read the query, each for parameters of its own.
@lru_cache(maxsize=32)
def parameters(query: str) -> Mapping[str, str]:
    """Read a URL's query, percent-encoded or not: of a repeated parameter the last value, and none that is empty."""
    return MappingProxyType(dict(parse_qsl("&".join(query.split("&", MOST)[:MOST]))))


def count(query: str) -> int:
    """Count the parameters, empty ones and those that are not read included."""
    return query.count("&") + 1
