"""Where a key is found, and which subprotocols an endpoint sees."""

from __future__ import annotations

import pytest

from speechbridge.protocol.deepgram import LISTEN
from speechbridge.protocol.openai import REALTIME
from speechbridge.server.credentials import Credentials

PLAIN = "/ws_a"


def found(path: str = PLAIN, query: str = "", header: str | None = None, *subprotocols: str) -> Credentials:
    return Credentials.of(path, query, [] if header is None else [(b"authorization", header)], subprotocols)


@pytest.mark.parametrize(
    ("query", "header", "key"),
    [
        ("access_token=k", None, "k"),
        ("", "Bearer k", "k"),
        ("", "bearer  k ", "k"),
        ("", "Token k", "k"),
        ("", "token k", "k"),
        ("access_token=k", "Bearer other", "k"),
        ("access_token=", "Bearer k", "k"),
        ("", "Basic k", ""),
        ("", None, ""),
    ],
)
def test_a_key_in_the_query_or_a_header(query: str, header: str | None, key: str) -> None:
    for path in (PLAIN, REALTIME, LISTEN):
        assert found(path, query, header).key == key


@pytest.mark.parametrize(
    ("path", "offered", "key", "selected", "others"),
    [
        (PLAIN, ["speechbridge", "speechbridge.key.k", "chat"], "k", "speechbridge", ["chat"]),
        (PLAIN, ["realtime", "openai-insecure-api-key.k"], "", None, ["realtime", "openai-insecure-api-key.k"]),
        (PLAIN, ["token", "k"], "", None, ["token", "k"]),
        (REALTIME, ["realtime", "openai-insecure-api-key.k", "openai-beta.realtime-v1"], "k", "realtime",
         ["openai-beta.realtime-v1"]),
        (REALTIME, ["speechbridge.key.k", "speechbridge"], "k", "speechbridge", []),
        (REALTIME, ["token", "k"], "", None, ["token", "k"]),
        (LISTEN, ["token", "k"], "k", "token", []),
        (LISTEN, ["bearer", "k", "chat"], "k", "bearer", ["chat"]),
        (LISTEN, ["token"], "", "token", []),
        (LISTEN, ["k", "token"], "", None, ["k", "token"]),
        (LISTEN, ["speechbridge", "speechbridge.key.k"], "k", "speechbridge", []),
        (LISTEN, [], "", None, []),
    ],
)  # fmt: skip
def test_a_key_among_the_subprotocols(
    path: str, offered: list[str], key: str, selected: str | None, others: list[str]
) -> None:
    credentials = found(path, "", None, *offered)
    assert (credentials.key, credentials.selected, list(credentials.others)) == (key, selected, others)
    assert not key or f"'{key}'" not in repr(credentials)
