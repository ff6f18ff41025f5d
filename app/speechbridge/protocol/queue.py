"""Waiting for a stream: our extension of Rev.ai's protocol for clients that ask with `queue=true`. Pure.

    client, query       queue=true                      if all streams of the account are in use, wait, up to a limit
    service             {"type": "queued", "place": 3, "wait_seconds": 40, "ticket": TICKET}
                                                        before `connected`, whenever the place or the wait has changed
    client, query       queue=true&ticket=TICKET        reconnect within 10 s, and keep the place in the queue

A client for which a stream is free gets no `queued`. Without `queue=true` a full account is 4029 at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.query import parameters

if TYPE_CHECKING:
    from typing import Self

TICKET_SECONDS = 10.0  # that a client whose connection was lost has to reconnect and keep its place
TICKET = re.compile(r"[\w-]{16,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Queue:
    """A URL's request to wait for a stream, perhaps with the ticket of an earlier connection."""

    ticket: str | None = None

    @classmethod
    def parse(cls, query: str) -> Self | None:
        """Read a URL's query; None if its client does not wait. A malformed ticket is ignored."""
        given = parameters(query)
        if given.get("queue", "false").lower() != "true":
            return None
        ticket = given.get("ticket", "")
        return cls(ticket if TICKET.fullmatch(ticket) else None)

    def query(self) -> str:
        """Write the parameters of a URL's query."""
        return "queue=true" if self.ticket is None else f"queue=true&ticket={self.ticket}"
