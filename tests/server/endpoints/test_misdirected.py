"""Plain requests to the addresses of WebSockets, and WebSockets where there is none."""

from __future__ import annotations

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

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


@pytest.mark.parametrize("path", ["/", "/foo", "/speechtotext/v1", "/static/index.html", "/livez", "/ws/more"])
async def test_a_websocket_at_another_path_is_not_found(path: str) -> None:
    """It was answered with 403, and clients were told to check their access token."""
    async with service() as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url + path)
    assert refused.value.response.status_code == 404
    assert b"it is one of /speechtotext/v1/stream" in (refused.value.response.body or b"")
