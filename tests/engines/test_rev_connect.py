"""Connecting Rev.ai's SDK: each way to fail has its close code, and is told in time."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import UpstreamClosed, reconnect
from speechbridge.engines.circuit import BACKOFF, FAILURES, Circuit, Entry
from speechbridge.engines.health import guarded
from speechbridge.engines.reconnect import ReconnectOptions, resuming
from speechbridge.engines.rev import RevEngine, Timeouts
from speechbridge.protocol.close import Close
from speechbridge.recognizer.server import serving
from speechbridge.testing.script import (
    Accept,
    Scripted,
    Status,
    Wait,
)
from syncbridge import Bridge, Limits
from tests import helpers
from tests.helpers.puppet import until
from tests.helpers.rev import PATIENCE, QUICK, REQUEST, TOKEN, bridged, ending

if TYPE_CHECKING:
    from speechbridge.testing.script import Step


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 4002),
        (401, 4001),
        (403, 4001),
        (402, 4003),
        (414, 4002),
        (431, 4002),
        (429, 4029),
        (500, 4013),
        (502, 4013),
    ],
)
async def test_an_http_status_becomes_a_close_code(status: int, code: int) -> None:
    async with bridged(Scripted((Status(status),))) as bridge:
        assert await ending(bridge) == Close(code, f"the speech service answered HTTP {status}")


async def test_a_proxy_of_the_environment_is_not_for_what_is_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody is there
    monkeypatch.setenv("no_proxy", "example.org")
    async with bridged(Scripted((Status(400),))) as bridge:
        assert await ending(bridge) == Close(4002, "the speech service answered HTTP 400")


async def test_rev_ais_cloud_is_reached_through_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        upstream = RevEngine(lambda: "wss://api.rev.example", TOKEN)(REQUEST)
        async with Bridge(upstream.start, abort=upstream.abort) as bridge:
            assert (await ending(bridge)).code == 4013
    assert asked == [b"CONNECT api.rev.example:443 HTTP/1.1\r\n"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # websocket-client lets go of its socket
async def test_no_server_is_4013() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    upstream = RevEngine(lambda: f"ws://127.0.0.1:{port}", TOKEN)(REQUEST)
    async with Bridge(upstream.start, abort=upstream.abort) as bridge:
        assert await ending(bridge) == Close(4013, "the speech service cannot be reached")


async def test_a_handshake_that_stalls_is_given_up() -> None:
    async with bridged(Scripted((Wait(), Accept())), timeouts=QUICK) as bridge:
        assert await ending(bridge) == Close(4013, "the speech service did not answer within 0.3 s")


async def test_a_handshake_that_stalls_can_be_cancelled() -> None:
    scripted = Scripted((Wait(), Accept()))
    async with bridged(scripted) as bridge:
        await scripted.client()
        bridge.cancel()
    assert bridge.statistics().state == "failed"  # and within PATIENCE, not within the connect timeout


@pytest.mark.parametrize("script", [(Wait(), Accept()), (Wait(messages=1), Wait())])
async def test_streams_that_we_abort_do_not_count_against_the_circuit(script: tuple[Step, ...]) -> None:
    """Clients that connect and leave at once would else stop everybody's streams."""
    scripted = Scripted(script)
    async with serving(scripted, handshake_timeout=None) as server:
        engine = RevEngine(lambda: server.url, TOKEN)
        for number in range(2 * FAILURES):
            upstream = guarded(engine, engine.health, PATIENCE)(REQUEST)
            async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
                await scripted.client(number)
                bridge.cancel()
        assert engine.health.trouble() is None
        assert not engine.health.circuit.is_open


def test_trouble_is_reported_while_streams_are_held_back_and_not_once_a_probe_is_due() -> None:
    """Were it in trouble until somebody got through, nobody would be sent to try, and so it would stay for ever."""
    now = 0.0
    engine = RevEngine(lambda: "ws://nowhere", TOKEN)
    engine.health.circuit = Circuit(lambda: now)
    assert engine.health.trouble() is None
    for _ in range(FAILURES):
        engine.health.circuit.failed(Entry())
    assert engine.health.trouble() == "the speech service fails for all streams at the moment"
    now = BACKOFF.longest
    assert engine.health.trouble() is None
    assert engine.health.circuit.is_open
    assert engine.health.circuit.enter(lambda: False, 0.0)  # one tries
    assert engine.health.trouble() is not None
    engine.health.circuit.succeeded()
    assert engine.health.trouble() is None


def test_trouble_is_reported_while_there_is_no_url() -> None:
    def nowhere() -> str:
        raise UpstreamClosed(Close(4013, "restarted"))

    assert RevEngine(nowhere, TOKEN).health.trouble() == "restarted"


def hang(monkeypatch: pytest.MonkeyPatch, host: str) -> threading.Event:
    """Have a lookup of this host hang until the event is set."""
    go_on, lookup = threading.Event(), socket.getaddrinfo

    def hanging(name: Any, *arguments: Any, **options: Any) -> Any:
        if name == host:
            go_on.wait(20 * PATIENCE)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return lookup(name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    return go_on


async def test_a_dns_lookup_that_hangs_is_told_within_the_time_for_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can interrupt it, and glibc alone takes half a minute; sixteen tries would make minutes of it."""
    go_on = hang(monkeypatch, "hangs.invalid")
    engine = RevEngine(lambda: "ws://hangs.invalid", TOKEN, QUICK)
    upstream = resuming(engine, ReconnectOptions())(REQUEST)
    async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
        assert await ending(bridge) == Close(4013, "the speech service did not answer within 0.3 s")
    assert engine.health.trouble() == "the speech service did not answer within 0.3 s"
    go_on.set()


async def test_a_dns_lookup_that_hangs_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = hang(monkeypatch, "hangs.invalid")
    upstream = RevEngine(lambda: "ws://hangs.invalid", TOKEN, Timeouts(connect=20 * PATIENCE))(REQUEST)
    async with Bridge(upstream.start, abort=upstream.abort, limits=Limits(grace=PATIENCE)) as bridge:
        await until(lambda: any(thread.name == "rev-connect" for thread in threading.enumerate()))
        bridge.cancel()
    assert bridge.statistics().state == "failed"  # and not abandoned
    go_on.set()


async def test_a_host_that_is_not_known_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hang(monkeypatch, "unknown.invalid").set()
    upstream = resuming(RevEngine(lambda: "ws://unknown.invalid", TOKEN), ReconnectOptions())(REQUEST)
    async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
        assert await ending(bridge) == Close(4013, "the speech service's host is not known")


async def test_dns_that_fails_later_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the name is right, and the failure an outage."""
    scripted = Scripted()
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    async with serving(scripted) as server:
        urls = iter([server.url, "ws://unknown.invalid", server.url])
        engine = RevEngine(lambda: next(urls), TOKEN)
        for _ in range(2):
            upstream = resuming(engine, ReconnectOptions())(REQUEST)
            async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
                await bridge.send(bytes(3200))
                bridge.end()
                assert [response async for response in bridge]
            hang(monkeypatch, "unknown.invalid").set()
    assert len(scripted.clients) == 2


async def test_a_certificate_that_is_not_valid_is_told_at_once_and_not_tried_again() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(helpers.__file__).parent / "self_signed.pem")

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    took: list[float | None] = []
    server = await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=context)
    async with server:
        host, port = server.sockets[0].getsockname()
        engine = RevEngine(lambda: f"wss://{host}:{port}", TOKEN, connected=took.append)
        upstream = resuming(engine, ReconnectOptions())(REQUEST)
        async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
            close = await ending(bridge)
    assert close == Close(4013, "the speech service's certificate is not valid: self-signed certificate")
    assert engine.health.trouble() == close.reason
    assert took == [None]


@pytest.mark.parametrize(
    "answer",
    [
        b"\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 odd\r\n\r\n",
        b"\xff\n",
        b"HTTP/1.1 301 -\r\n\r\n",
        b"HTTP/1.1 301 -\r\nSet-Cookie: not/a/name=1\r\n\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_4013(answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        upstream = RevEngine(lambda: f"ws://{host}:{port}", TOKEN)(REQUEST)
        async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
            assert await ending(bridge) == Close(4013, "the speech service cannot be reached")
