"""The address of a service: what can be one, and what of it may be shown."""

from __future__ import annotations

import pytest

from speechbridge.protocol.address import Address, is_loopback, is_nearby


@pytest.mark.parametrize(
    ("url", "full", "shown", "loopback"),
    [
        ("http://127.0.0.1:8000/x?q#f", "ws://127.0.0.1:8000/x?q", "ws://127.0.0.1:8000", True),
        ("https://a:b@example.com", "wss://a:b@example.com", "wss://example.com", False),
        ("ws://[::1]:9", "ws://[::1]:9", "ws://[::1]:9", True),
        ("wss://localhost", "wss://localhost", "wss://localhost", True),
    ],
)
def test_an_address_is_parsed_and_shown_without_secrets(url: str, full: str, shown: str, loopback: bool) -> None:  # noqa: FBT001 # a table
    assert Address.parse(url) == Address(full, shown, loopback)


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "ws://", "ws://host:0", "ws://host:99999", "ws://[::1"])
def test_an_unusable_address_is_a_value_error_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match="the URL is not usable: write ws://host:port or wss://host"):
        Address.parse(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a", False)],
)
def test_loopback_is_known_by_name_and_by_number(host: str, loopback: bool) -> None:  # noqa: FBT001 # a case
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(
    ("host", "nearby"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("192.168.1.1", True),
        ("fd00::1", True),
        ("localhost", True),
        ("recognizer", True),
        ("recognizer.internal", True),
        ("8.8.8.8", False),
        ("2606:4700::1", False),
        ("api.rev.ai", False),
    ],
)
def test_a_proxy_is_not_asked_to_reach_what_is_nearby(host: str, nearby: bool) -> None:  # noqa: FBT001 # a case
    assert is_nearby(host) == nearby
