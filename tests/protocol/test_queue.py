"""What a client says that it waits, and for what place."""

from __future__ import annotations

import pytest

from speechbridge.protocol.messages import Queued, parse_message
from speechbridge.protocol.queue import Queue

TICKET = "a-ticket_of-16.characters".replace(".", "-")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", None),
        ("queue=false", None),
        ("queue=1", None),
        (f"ticket={TICKET}", None),
        ("queue=true", Queue()),
        ("queue=TRUE&ticket=", Queue()),
        ("queue=true&ticket=short", Queue()),
        (f"queue=true&ticket={TICKET}%20", Queue()),
        (f"queue=true&ticket={'x' * 65}", Queue()),
        (f"queue=true&ticket={TICKET}", Queue(TICKET)),
    ],
)
def test_a_query_says_whether_its_client_waits(query: str, found: Queue | None) -> None:
    assert Queue.parse(query) == found
    if found is not None:
        assert Queue.parse(found.query()) == found


def test_a_place_is_told_and_read() -> None:
    queued = Queued(3, 40, TICKET)
    assert parse_message(queued.encode()) == queued
    assert TICKET not in repr(queued)


def test_a_message_of_another_service_is_read_as_far_as_it_goes() -> None:
    assert parse_message('{"type": "queued", "place": "third", "wait_seconds": 1.9}') == Queued(0, 1, "")
