"""The gate in front of what is posted: keys, limits and origins hold for it as for WebSockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.transcriptions import PATH
from speechbridge.server import turns
from speechbridge.server.admission import make_key
from tests.helpers.command import hears_hello
from tests.helpers.encoded import FORMS, reading
from tests.helpers.forms import TYPE, audio, error, form, post, web
from tests.helpers.puppet import until
from tests.helpers.secrets import KNOWN
from tests.helpers.service import client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.slow  # each decodes speech

KEY, LINE = make_key("carol")
KNOWN.add(KEY)
PARTS = audio(reading(FORMS[25], 0.5))  # WAV
ELSEWHERE = {"X-Forwarded-For": "192.0.2.1"}


async def test_a_key_is_needed_and_comes_as_openais_clients_send_it() -> None:
    async with service(hears_hello, api_keys=LINE) as server:
        assert (await post(server, PARTS, authorization=f"Bearer {KEY}")).json()["text"] == "Hello."
        for headers in ({}, {"authorization": "Bearer sk-wrong"}):
            refused = await post(server, PARTS, **headers)
            assert (refused.status_code, error(refused)["code"]) == (401, "invalid_api_key")


async def test_a_refusal_is_read_by_a_client_that_sends_all_of_its_file_first() -> None:
    """Closed at once, its connection would be reset, and the reason lost."""
    async with service(hears_hello, api_keys=LINE) as server:
        for _ in range(5):
            refused = await post(server, audio(bytes(8_000_000)))
            assert refused.status_code == 401


async def test_a_client_that_waits_before_it_sends_is_not_told_to_go_on() -> None:
    async with service(hears_hello, api_keys=LINE) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: 9999\r\nExpect: 100-continue"
        )
        writer.write(f"{head}\r\n\r\n".encode())
        answer = await reader.readuntil(b"}}")
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_requests_a_minute_and_connections_are_limited_by_address() -> None:
    async with service(hears_hello, handshakes_per_minute=2) as server:
        statuses = [(await post(server, PARTS, **ELSEWHERE)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        async with client(server, additional_headers=ELSEWHERE) as socket:  # they count together
            assert (await ending(socket))[1].code == CloseCode.TOO_OFTEN
    async with service(hears_hello, sessions_per_address=1) as server, client(server, additional_headers=ELSEWHERE):
        crowded = await post(server, PARTS, **ELSEWHERE)
        assert (crowded.status_code, error(crowded)["type"]) == (429, "rate_limit_error")
        assert (await post(server, PARTS)).status_code == 200


async def test_a_file_takes_up_a_connection_until_it_is_answered() -> None:
    held = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield form(*PARTS)[:-100]
        await held.wait()
        yield form(*PARTS)[-100:]

    async with service(hears_hello, max_connections=1) as server, web(server) as sender:
        sending = asyncio.create_task(sender.post(PATH, content=pieces(), headers={"content-type": TYPE}))
        await until(lambda: server.sessions.alive)
        async with client(server) as socket:
            assert (await ending(socket))[1].code == CloseCode.TOO_MANY
        held.set()
        assert (await sending).status_code == 200
        assert (await post(server, PARTS)).status_code == 200


async def test_a_file_that_comes_too_fast_is_slowed_down() -> None:
    """A live stream would be closed; but a file comes as fast as the network takes it."""
    begun = asyncio.get_running_loop().time()
    async with service(hears_hello, bytes_per_second=100_000) as server:
        response = await post(server, audio(reading(FORMS[25], 8.0)), **ELSEWHERE)
    assert response.status_code == 200
    assert asyncio.get_running_loop().time() - begun > 1.0


async def test_pages_of_other_origins_may_neither_send_nor_read() -> None:
    async with service(hears_hello, origins="https://good.example") as server:
        bad = await post(server, PARTS, origin="https://bad.example")
        assert (bad.status_code, error(bad)["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in bad.headers
        good = await post(server, PARTS, origin="https://good.example")
        assert good.status_code == 200
        assert good.headers["access-control-allow-origin"] == "https://good.example"


async def test_what_a_browser_asks_first_is_answered() -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with service(hears_hello, origins="https://good.example", api_keys=LINE) as server, web(server) as page:
        good = await page.options(PATH, headers={"origin": "https://good.example", **asked})
        bad = await page.options(PATH, headers={"origin": "https://bad.example", **asked})
        wrong = await post(server, PARTS, origin="https://good.example")
    assert good.status_code == 204
    assert "authorization" in good.headers["access-control-allow-headers"]
    assert bad.status_code == 405
    assert "access-control-allow-origin" not in bad.headers
    assert wrong.status_code == 401
    assert wrong.headers["access-control-allow-origin"] == "https://good.example"  # or the page could not read why


async def test_other_methods_are_405() -> None:
    async with service(hears_hello) as server, web(server) as sender:
        assert (await sender.get(PATH)).status_code == 405
        assert (await sender.put(PATH, content=b"x")).status_code == 405


async def test_what_was_admitted_is_not_dropped_for_connections_that_were_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechbridge.server.run.MOST_UNADMITTED", 2)
    assert turns.MOST_UNADMITTED > 2
    held = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield form(*PARTS)[:-100]
        await held.wait()
        yield form(*PARTS)[-100:]

    async with service(hears_hello, max_connections=2) as server, web(server) as sender:
        sending = asyncio.create_task(sender.post(PATH, content=pieces(), headers={"content-type": TYPE}))
        await until(lambda: server.sessions.alive)
        port = int(server.url.rpartition(":")[2])
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        assert await others[0][0].read() == b""  # the oldest of those was dropped
        held.set()
        assert (await sending).status_code == 200
        for _, writer in others:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
