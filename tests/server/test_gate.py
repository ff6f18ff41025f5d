"""The door in front of every WebSocket, over a real socket."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from socket import create_server
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.request import PATH
from speechbridge.server.admission import make_key
from tests.helpers.puppet import until
from tests.helpers.raw_websocket import close_code, frame, handshake
from tests.helpers.secrets import KNOWN
from tests.helpers.service import STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.server.run import Server

KEY, LINE = make_key("alice")
KNOWN.add(KEY)
EVERYWHERE = ["/ws_a", STREAM, "/ws", "/relay"]


def total(audio: Iterator[bytes]) -> Iterator[str]:
    """An SDK whose last words are how many bytes it heard."""
    yield str(sum(len(chunk) for chunk in audio))


def frm(address: str, **headers: str) -> dict[str, Any]:
    """Come from an address, as the proxy on this machine says."""
    return {"additional_headers": {"X-Forwarded-For": address, **headers}}


async def refusal(server: Server, path: str = "/ws_a", **options: Any) -> int | None:
    """Connect to a stream, and end it; return the code of a refusal, None if there was none."""
    async with client(server, path, **options) as socket:
        with suppress(ConnectionClosed):  # refused at once
            await socket.send("EOS")
        _, close = await ending(socket)
    return close.code if close.code >= 4000 else None


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_every_endpoint_asks_for_the_key(path: str) -> None:
    async with service(api_keys=LINE) as server, client(server, path) as socket:
        _, close = await ending(socket)
    assert close.code == CloseCode.UNAUTHORIZED
    assert "API key" in close.reason


@pytest.mark.parametrize(
    ("path", "options"),
    [
        (f"/ws_a?access_token={KEY}", {}),
        (f"{STREAM}&access_token={KEY}", {}),
        ("/ws_a", {"additional_headers": {"Authorization": f"Bearer {KEY}"}}),
        ("/ws_a", {"subprotocols": [Subprotocol("speechbridge"), Subprotocol(f"speechbridge.key.{KEY}")]}),
    ],
    ids=["query", "query of a stream", "header", "subprotocol"],
)
async def test_a_key_comes_in_any_of_three_ways(path: str, options: dict[str, Any]) -> None:
    async with service(api_keys=LINE) as server:
        assert await refusal(server, path, **options) is None
    async with service(api_keys=make_key("alice")[1]) as server:
        assert await refusal(server, path, **options) == CloseCode.UNAUTHORIZED


async def test_a_page_that_offers_our_subprotocol_gets_it_selected() -> None:
    """Or its browser would fail the connection, also one that is only opened to be told why it is refused."""
    offered = [Subprotocol("speechbridge"), Subprotocol("speechbridge.key.wrong")]
    async with service(api_keys=LINE) as server, client(server, subprotocols=offered) as socket:
        assert socket.subprotocol == "speechbridge"


async def test_the_relay_s_far_side_never_sees_the_key() -> None:
    seen: list[str] = []

    async def far(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(str(connection.request))

    async with serve(far, "127.0.0.1", 0, subprotocols=[Subprotocol("chat")]) as upstream:
        url = f"ws://127.0.0.1:{next(iter(upstream.sockets)).getsockname()[1]}"
        offered = [Subprotocol("chat"), Subprotocol("speechbridge"), Subprotocol(f"speechbridge.key.{KEY}")]
        async with (
            service(api_keys=LINE, relay_url=url) as server,
            client(server, "/relay", subprotocols=offered) as socket,
        ):
            assert socket.subprotocol == "chat"
            await ending(socket)
    assert "chat" in seen[0]
    assert KEY not in seen[0]


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_a_foreign_page_is_refused_everywhere_and_told_the_cure(path: str) -> None:
    async with service() as server, client(server, path, origin=Origin("https://evil.example")) as socket:
        _, close = await ending(socket)
    assert close.code == CloseCode.FOREIGN
    assert "SPEECHBRIDGE_ORIGINS" in close.reason


async def test_the_service_s_own_page_and_the_listed_ones_may_connect() -> None:
    async with service(origins="https://example.org, https://example.net") as server:
        own = server.url.replace("ws://", "http://")
        for origin in (own, "https://example.org", "https://example.net"):
            assert await refusal(server, origin=Origin(origin)) is None


async def test_one_address_is_limited_and_its_neighbour_is_not() -> None:
    async with service(sessions_per_address=1, handshakes_per_minute=3) as server:
        async with client(server, **frm("203.0.113.7")) as socket:
            assert await refusal(server, **frm("203.0.113.7")) == CloseCode.CROWDED
            assert await refusal(server, **frm("203.0.113.8")) is None
            await socket.send("EOS")
            await ending(socket)
        await until(lambda: not server.connections)
        assert await refusal(server, **frm("203.0.113.7")) is None
        assert await refusal(server, **frm("203.0.113.7")) == CloseCode.TOO_OFTEN
        assert await refusal(server, **frm("203.0.113.8")) is None


async def test_a_forwarded_address_is_believed_of_a_trusted_proxy_only() -> None:
    async with service(handshakes_per_minute=1, trusted_proxies="203.0.113.99") as server:
        for _ in range(3):  # all of them 127.0.0.1 then, which is not limited
            assert await refusal(server, **frm("203.0.113.7")) is None


async def test_a_stream_that_lost_its_client_keeps_its_place_and_is_come_back_to() -> None:
    """Or whoever opens and drops connections with resume=true holds any number of streams."""
    async with service(sessions_per_address=1, resume_seconds=60) as server:
        sessions = server.sessions
        async with client(server, f"{STREAM}&resume=true", **frm("203.0.113.7")) as socket:
            key = str(await socket.recv()).split('"resume": "')[1].split('"')[0]
            socket.transport.abort()
        await until(lambda: not server.connections)
        assert sessions.alive == 1
        assert await refusal(server, **frm("203.0.113.7")) == CloseCode.CROWDED
        assert await refusal(server, f"{STREAM}&resume={key}", **frm("203.0.113.7")) is None
        await until(lambda: sessions.alive == 0 and not server.connections)
        assert await refusal(server, **frm("203.0.113.7")) is None


async def test_a_resume_key_works_only_with_an_api_key_of_the_one_who_began() -> None:
    (bob, bobs_line), (second, second_line) = make_key("bob"), make_key("alice")
    KNOWN.update((bob, second))
    async with service(api_keys=f"{LINE},{bobs_line},{second_line}") as server:
        async with client(server, f"{STREAM}&resume=true&access_token={KEY}") as socket:
            key = str(await socket.recv()).split('"resume": "')[1].split('"')[0]
            socket.transport.abort()
        async with client(server, f"{PATH}?resume={key}&access_token={bob}") as socket:
            _, close = await ending(socket)
        assert (close.code, "no such stream" in close.reason) == (4002, True)
        async with client(server, f"{PATH}?resume={key}&access_token={second}") as socket:  # alice has two keys
            assert key in str(await socket.recv())
            await socket.send("EOS")
            assert (await ending(socket))[1].code == 1000


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_all_connections_count_towards_the_limit_of_the_service_loopback_too(path: str) -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(silent, "127.0.0.1", 0) as upstream:
        url = f"ws://127.0.0.1:{next(iter(upstream.sockets)).getsockname()[1]}"
        async with service(max_connections=2, relay_url=url) as server:
            async with client(server, path), client(server, path, **frm("203.0.113.7")):
                assert await refusal(server, path) == CloseCode.TOO_MANY
                assert await refusal(server, path, **frm("203.0.113.8")) == CloseCode.TOO_MANY
            await until(lambda: not server.connections and server.sessions.alive == 0)
            assert await refusal(server) is None


@pytest.mark.parametrize("path", ["/ws_a", "/ws", "/relay"])
async def test_only_a_stream_is_come_back_to_without_a_place(path: str) -> None:
    async with service(sessions_per_address=1) as server, client(server, **frm("203.0.113.7")):
        assert await refusal(server, f"{path}?resume=key", **frm("203.0.113.7")) == CloseCode.CROWDED


@pytest.mark.parametrize(
    ("limits", "chunks", "code"),
    [
        ({"bytes_per_second": 1000}, [b"x" * 600] * 2, CloseCode.TOO_MANY_BYTES),
        ({"bytes_per_second": 1000}, [b"x" * 600, "\u20ac" * 200], CloseCode.TOO_MANY_BYTES),
        ({"messages_per_second": 5}, [b"x"] * 20, CloseCode.TOO_MANY_MESSAGES),
    ],
)
async def test_too_much_in_a_second_is_cut_off_and_what_was_heard_is_said(
    limits: dict[str, int], chunks: list[bytes | str], code: CloseCode
) -> None:
    async with service(total, **limits) as server, client(server, **frm("203.0.113.7")) as socket:
        for chunk in chunks:
            await socket.send(chunk)
        messages, close = await ending(socket)
    assert close.code == code
    assert "a second from this address" in close.reason
    assert len(messages) == 1
    assert 0 < int(messages[0]) < sum(len(chunk) for chunk in chunks)


@pytest.mark.parametrize(
    "flood", [frame(9, b"!"), frame(10, b"!"), frame(2), frame(1, b'{"finals": 0}')], ids=lambda flood: flood.hex()
)
async def test_frames_of_every_kind_count_as_messages(flood: bytes) -> None:
    async with service(total, messages_per_second=50) as server:
        where = urlsplit(server.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        head = handshake(f"{STREAM}&resume=true")
        writer.write(head.replace(b"Host: x", b"X-Forwarded-For: 203.0.113.7\r\nHost: x"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(2, b"audio") + flood * 80)
        assert await close_code(reader) == CloseCode.TOO_MANY_MESSAGES
        writer.close()


async def test_the_bytes_of_pings_count() -> None:
    async with service(total, bytes_per_second=1000) as server, client(server, **frm("203.0.113.7")) as socket:
        with suppress(ConnectionClosed):
            for number in range(20):
                await socket.ping(bytes([number]) * 100)
        _, close = await ending(socket)
    assert close.code == CloseCode.TOO_MANY_BYTES


@pytest.mark.parametrize("path", EVERYWHERE)
async def test_an_idle_connection_is_closed(path: str) -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(silent, "127.0.0.1", 0) as upstream:
        url = f"ws://127.0.0.1:{next(iter(upstream.sockets)).getsockname()[1]}"
        async with service(idle_seconds=0.05, relay_url=url) as server, client(server, path) as socket:
            _, close = await ending(socket)
    assert close.code == CloseCode.IDLE
    assert "no traffic for 0.05 s" in close.reason


async def test_a_relay_that_still_dials_is_not_idle() -> None:
    """Closed before it was accepted, it would be told HTTP 403 and no reason."""
    with create_server(("127.0.0.1", 0)) as mute:
        url = f"ws://127.0.0.1:{mute.getsockname()[1]}"
        async with (
            service(idle_seconds=0.05, connect_seconds=0.3, relay_url=url) as server,
            client(server, "/relay") as socket,
        ):
            _, close = await ending(socket)
    assert close.code == CloseCode.BAD_GATEWAY


async def test_one_that_sends_or_is_sent_something_is_not_idle() -> None:
    said = threading.Semaphore(0)

    def chatty(audio: Iterator[bytes]) -> Iterator[str]:
        for chunk in audio:
            for _ in chunk:
                said.acquire()
                yield "."

    async with service(chatty, idle_seconds=0.3) as server, client(server) as socket:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await socket.send(b"x" * 12)  # and nothing more
        for _ in range(12):
            loop.call_later(0.05, said.release)
            assert await socket.recv() == "."
        assert loop.time() - begun > 0.3


@pytest.mark.parametrize("path", ["/ws_a", STREAM])
async def test_a_stream_that_is_too_long_gets_its_last_words_and_the_reason(path: str) -> None:
    async with service(total, session_seconds=0.2) as server, client(server, path) as socket:
        await socket.send(b"x" * 100)
        messages, close = await ending(socket)
    assert messages[-1] == "100"
    assert close.code == CloseCode.TOO_LONG


async def test_refusals_are_logged_without_the_key_and_only_up_to_a_rate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with service(api_keys=LINE, handshakes_per_minute=1) as server:
        for _ in range(3):
            await refusal(server, "/ws_a?access_token=S3CRET", **frm("203.0.113.7"))
    told = [record.getMessage() for record in caplog.records if record.name == "speechbridge.server.gate"]
    assert len(told) == 1
    assert told[0].startswith("refused 203.0.113.7 with 4001")
    assert "S3CRET" not in caplog.text


async def test_a_key_behind_an_encoded_question_mark_is_not_logged_either(caplog: pytest.LogCaptureFixture) -> None:
    """A URL's parts were joined wrongly: the query is a piece of the path then, and the path is logged."""
    caplog.set_level(logging.INFO)
    async with service(api_keys=LINE) as server:
        assert await refusal(server, "/ws_a%3Faccess_token=S3CRET") == CloseCode.UNAUTHORIZED
    assert "S3CRET" not in caplog.text


@pytest.mark.slow
async def test_a_thousand_wrong_keys_are_stopped_while_another_address_works() -> None:
    async with service(api_keys=LINE, handshakes_per_minute=60) as server:

        async def guess(number: int) -> int | None:
            options = frm("203.0.113.7", Authorization=f"Bearer {number}")
            async with connect(server.url + "/ws_a", compression=None, **options) as socket:
                _, close = await ending(socket)
            return close.code

        codes: list[int | None] = []
        for start in range(0, 1000, 50):
            codes += await asyncio.gather(*(guess(number) for number in range(start, start + 50)))
            assert await refusal(server, f"/ws_a?access_token={KEY}", **frm(f"203.0.113.{100 + start // 50}")) is None
        assert set(codes) == {CloseCode.UNAUTHORIZED, CloseCode.TOO_OFTEN}
        assert codes.count(CloseCode.UNAUTHORIZED) < 500  # 60, and one more for each second that this took
