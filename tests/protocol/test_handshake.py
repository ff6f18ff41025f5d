"""What a request lacks to be a WebSocket handshake, said by the service and read by the doctor."""

from __future__ import annotations

import pytest

from speechbridge.protocol.handshake import INTRODUCTION, Arrived

WHOLE = {
    "host": "a.example",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "sec-websocket-version": "13",
    "origin": "https://a.example",
}


@pytest.mark.parametrize(
    ("http_version", "changed", "missing"),
    [
        ("1.1", {}, ()),
        ("1.1", {"connection": "keep-alive, upgrade", "upgrade": "WebSocket"}, ()),
        ("1.1", {"connection": "close"}, ("Connection",)),
        ("1.1", {"upgrade": "h2c"}, ("Upgrade",)),
        ("1.0", {"connection": "", "upgrade": ""}, ("HTTP/1.1", "Upgrade", "Connection")),
        ("1.1", {"sec-websocket-version": "8"}, ("Sec-WebSocket-Version",)),
    ],
)
def test_what_is_missing_is_named(http_version: str, changed: dict[str, str], missing: tuple[str, ...]) -> None:
    assert Arrived.of(http_version, (WHOLE | changed).items()).missing == missing


def test_a_header_may_come_in_several_lines() -> None:
    headers = [*WHOLE.items(), ("connection", "x")]
    assert Arrived.of("1.1", [("connection", "keep-alive"), *headers]).missing == ()


@pytest.mark.parametrize(
    "arrived",
    [
        Arrived(("Upgrade", "Connection"), "a.example:8000", "https://a.example"),
        Arrived(("HTTP/1.1",), None, None),
        Arrived(("Upgrade",), "a: b", ""),
    ],
)
def test_what_a_service_says_is_read(arrived: Arrived) -> None:
    assert Arrived.read(arrived.text()) == arrived


@pytest.mark.parametrize("text", ["", "\n", "Not Found", "<html>", INTRODUCTION[:-5]])
def test_another_text_is_no_service_s(text: str) -> None:
    assert Arrived.read(text) is None
