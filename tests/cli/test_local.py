"""Which service a command talks to."""

from __future__ import annotations

import pytest

from speechbridge.cli.exits import BadInput
from speechbridge.cli.local import base_of, local_url
from speechbridge.protocol.request import PATH
from speechbridge.settings import Settings


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        (f"ws://127.0.0.1:8000{PATH}", "ws://127.0.0.1:8000"),
        ("ws://127.0.0.1:8000/ws_a", "ws://127.0.0.1:8000"),
        (" ws://127.0.0.1:8000/ws\n", "ws://127.0.0.1:8000"),
        ("ws://127.0.0.1:8000/relay/", "ws://127.0.0.1:8000"),
        ("wss://example.org/speech", "wss://example.org/speech"),
        (f"wss://example.org/speech{PATH}", "wss://example.org/speech"),
        ("127.0.0.1:8000", "ws://127.0.0.1:8000"),
        ("localhost", "ws://localhost"),
        ("ws://0.0.0.0:8000", "ws://127.0.0.1:8000"),
        ("http://[::]:8000/ws_a", "http://[::1]:8000"),
        ("ws://0.0.0.0.example.org", "ws://0.0.0.0.example.org"),
    ],
)
def test_what_serve_prints_is_a_url_of_the_service(given: str, base: str) -> None:
    assert base_of(given) == base


@pytest.mark.parametrize("given", ["ftp://127.0.0.1", "ws://", "ws://127.0.0.1:99999", "ws://[::1"])
def test_what_can_be_no_service_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match=r"^--url: the URL is not usable: write ws://host:port"):
        base_of(given)


@pytest.mark.parametrize("given", ["ws://127.0.0.1:8000/?access_token=x", "http://127.0.0.1:8000/#key=x"])
def test_a_key_in_the_url_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(BadInput, match="SPEECHBRIDGE_KEY") as refused:
        base_of(given)
    assert "x" not in str(refused.value).split("SPEECHBRIDGE_KEY")[0].removeprefix("--url")


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "ws://127.0.0.1:8123"), ("0.0.0.0", "ws://127.0.0.1:8123"), ("::", "ws://[::1]:8123")],  # noqa: S104
)
def test_a_service_is_reached_where_the_settings_have_it_listen(host: str, url: str) -> None:
    assert local_url(Settings.read(host=host, port=8123)) == url
