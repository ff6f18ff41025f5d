"""Where a client's request carries its key, and which subprotocols only serve that purpose. Pure.

    access_token=KEY in the query                    any endpoint
    Authorization: Bearer KEY, Token KEY             any endpoint; Token is Deepgram's
    subprotocols `speechbridge`, `speechbridge.key.KEY`       any endpoint
    subprotocols `realtime`, `openai-insecure-api-key.KEY`    /v1/realtime
    subprotocols `token`, KEY or `bearer`, KEY                /v1/listen

A page's script cannot set headers, and others may see a URL, so pages use subprotocols. The server selects the first of
a pair, because a browser gives up a connection whose server selects none. Both of a pair are hidden from the endpoints:
/relay forwards the offered subprotocols, and the key is meant for this service only. On other paths than those above, a
subprotocol is forwarded like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speechbridge.protocol.deepgram import LISTEN
from speechbridge.protocol.openai import REALTIME
from speechbridge.protocol.query import parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUBPROTOCOL = "speechbridge"
KEY_SUBPROTOCOL = "speechbridge.key."
OPENAI, OPENAI_KEY, OPENAI_BETA = "realtime", "openai-insecure-api-key.", "openai-beta."
SCHEMES = ("bearer ", "token ")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A request's key, "" for none, and its subprotocols."""

    key: str = field(repr=False)
    selected: str | None  # the subprotocol to select, if one of ours is offered
    others: tuple[str, ...] = ()  # the subprotocols that are not ours

    @classmethod
    def of(
        cls, path: str, query: str, headers: Iterable[tuple[bytes, str]], subprotocols: Sequence[str]
    ) -> Credentials:
        """Examine a request. Header names are in lower case. Of several keys the first in the order above counts."""
        selected, others, keys = _split(path, subprotocols)
        given = [value for name, value in headers if name == b"authorization"]
        in_header = [
            value[len(scheme) :] for value in given for scheme in SCHEMES if value[: len(scheme)].lower() == scheme
        ]
        in_query = parameters(query).get("access_token", "")
        return cls(in_query or next(iter([*in_header, *keys]), "").strip(), selected, tuple(others))


def _split(path: str, subprotocols: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """Return the subprotocol to select, those that are not ours, and the keys."""
    if path == LISTEN and subprotocols and subprotocols[0].lower() in ("token", "bearer"):
        return subprotocols[0], list(subprotocols[2:]), list(subprotocols[1:2])
    names, prefixes = [SUBPROTOCOL], [KEY_SUBPROTOCOL]
    if path == REALTIME:
        names, prefixes = [SUBPROTOCOL, OPENAI], [KEY_SUBPROTOCOL, OPENAI_KEY]
    selected, others, keys = None, [], []
    for offered in subprotocols:
        if offered in names:
            selected = selected or offered
        elif found := [offered.removeprefix(prefix) for prefix in prefixes if offered.startswith(prefix)]:
            keys += found
        else:
            others.append(offered)
    return selected, others, keys
