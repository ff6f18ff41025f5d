"""The address of a service: what can be one, and what of it may be shown."""

from __future__ import annotations

import pytest

from speechbridge.protocol.address import Address, is_loopback


@pytest.mark.parametrize(
    ("url", "full", "shown"),
    [
        ("ws://host:8000/a?b=c#d", "ws://host:8000/a?b=c", "ws://host:8000"),
        ("http://host", "ws://host", "ws://host"),
        ("https://user:password@host/a", "wss://user:password@host/a", "wss://host"),
        ("wss://[::1]:1/", "wss://[::1]:1/", "wss://[::1]:1"),
    ],
)
def test_an_address_is_read_and_shown_without_path_query_and_password(url: str, full: str, shown: str) -> None:
    address = Address.parse(url)
    assert (address.url, address.shown) == (full, shown)


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host", "ws://", "ws://host:0", "ws://host:65536", "ws://[::1"])
def test_what_cannot_be_an_address_is_a_value_error_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match="write ws://host:port"):
        Address.parse(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a", False)],
)
def test_loopback_is_known_by_name_and_by_number(host: str, loopback: bool) -> None:  # noqa: FBT001 # a case
    assert is_loopback(host) == loopback
