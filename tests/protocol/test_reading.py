"""What readers are sent, and who shares."""

from __future__ import annotations

import pytest

from speechbridge.protocol.messages import Connected, parse_message
from speechbridge.protocol.reading import Entry, end_event, new_token, shares
from speechbridge.protocol.resume import Greeting
from speechbridge.protocol.resume import parse_message as parse_resumable


@pytest.mark.parametrize("query", ["share=true", "a=b&share=True"])
def test_a_query_says_that_its_client_shares(query: str) -> None:
    assert shares(query)


@pytest.mark.parametrize("query", ["", "share=false", "share=", "share=1"])
def test_a_client_that_does_not_say_so_shares_nothing(query: str) -> None:
    assert not shares(query)


def test_tokens_have_more_than_128_random_bits_and_fit_a_path() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 32 and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


def test_an_event_has_a_line_for_each_line_and_an_id_if_it_is_a_final() -> None:
    assert Entry.of('{"a":\r\n1}\n', 7).event == b'id: 7\ndata: {"a":\ndata: 1}\ndata: \n\n'
    assert Entry.of("x\u2028y").event == "data: x\u2028y\n\n".encode()  # no end of a line there
    assert end_event(7) == b"event: end\nid: 8\ndata: {}\n\n"


def test_the_token_comes_with_connected_and_is_not_in_a_repr() -> None:
    connected, greeting = Connected("1", "TOKEN"), Greeting("1", "KEY", 0, "TOKEN")
    assert parse_message(connected.encode()) == connected
    assert parse_resumable(greeting.encode()) == greeting
    assert "TOKEN" not in f"{connected!r} {greeting!r}"
    assert "read" not in Connected("1").encode() + Greeting("1", "KEY", 0).encode()
