"""Plain requests to the addresses of WebSockets."""

from __future__ import annotations

import httpx2
import pytest

from speechbridge.protocol.request import PATH
from tests.helpers.service import service


@pytest.mark.parametrize("path", ["/ws", "/ws_a", "/relay", PATH])
async def test_a_plain_request_is_told_what_is_missing(path: str) -> None:
    async with service() as server, httpx2.AsyncClient() as http:
        url = server.url.replace("ws://", "http://")
        answer = await http.get(url + path, headers={"origin": "https://a.example"})
        head = await http.head(url + path)
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    missing = "Upgrade, Connection, Sec-WebSocket-Key, Sec-WebSocket-Version"
    assert answer.text == (
        f"this address is for WebSockets; missing from the request: {missing}\n"
        f"Host: {url.partition('//')[2]}\nOrigin: https://a.example\n"
    )
    assert (head.status_code, head.content) == (426, b"")
