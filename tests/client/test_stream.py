"""The client against a server that speaks Rev.ai's protocol, also with faults."""

from __future__ import annotations

import asyncio
import logging
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from speechbridge.client import dial
from speechbridge.client.dial import Refused, TimedOut, Unreachable
from speechbridge.client.stream import Broken, Closed, Stream, Unreadable, connect
from speechbridge.protocol.close import END_OF_INPUT, LIFETIME_REACHED, NO_DATA, Close, explain
from speechbridge.protocol.messages import Connected, Element, Final, Partial
from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from tests.helpers.far_side import hear, serving
from tests.helpers.secrets import everything_in, secret

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

PATIENCE = 5.0  # seconds; nothing waits this long unless it is broken
TOKEN = secret()  # to be looked for where it must not be
REQUEST = StreamRequest(ContentType.raw(), {"language": "en"}, TOKEN)
PARTIAL = Partial(0, 1, (Element("one"),))
FINAL = Final(0, 1, (Element("One", ts=0.0, end_ts=0.9), Element(".", "punct")))


async def answer(websocket: ServerConnection) -> None:
    """Hold one conversation as Rev.ai does."""
    await websocket.send(Connected("1").encode())
    await hear(websocket)
    await websocket.send(FINAL.encode())
    await websocket.close(1000, END_OF_INPUT)


async def read(stream: Stream) -> list[Partial | Final]:
    return [message async for message in stream]


async def send_for_ever(stream: Stream) -> None:
    while True:
        await stream.send(bytes(3200))


async def test_audio_is_sent_and_a_transcript_is_received() -> None:
    heard: list[bytes] = []
    paths: list[str] = []

    async def handler(websocket: ServerConnection) -> None:
        paths.append(websocket.request.path if websocket.request else "")
        await websocket.send(Connected("1").encode())
        heard.append(await hear(websocket))
        await websocket.send(PARTIAL.encode())
        await websocket.send(FINAL.encode())
        await websocket.close(1000, END_OF_INPUT)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        before = stream.close
        await stream.send(b"ab")
        await stream.send(b"cd")
        await stream.end()
        assert await read(stream) == [PARTIAL, FINAL]
        assert (before, stream.close) == (None, Close(1000, END_OF_INPUT))
        assert await read(stream) == []
    assert (heard, paths) == ([b"abcd"], [f"{PATH}?{REQUEST.query()}"])


async def test_captions_arrive_while_audio_is_sent() -> None:
    """One task sends, another iterates: each chunk waits for the answer to the one before."""
    answered = asyncio.Semaphore(1)

    async def handler(websocket: ServerConnection) -> None:
        async for message in websocket:
            if message == "EOS":
                return
            await websocket.send(PARTIAL.encode())

    async def send(stream: Stream) -> None:
        for _ in range(5):
            await answered.acquire()
            await stream.send(b"ab")
        await stream.end()

    async with serving(handler) as url, connect(url, REQUEST) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(send(stream))
        count = 0
        async for _ in stream:
            count += 1
            answered.release()
        assert count == 5


async def test_a_fast_sender_lets_other_tasks_run() -> None:
    async with serving(answer) as url, connect(url, REQUEST) as stream:
        others = 0

        async def count() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(100):
            await stream.send(b"")
        counting.cancel()
        assert others >= 99


@pytest.mark.parametrize(
    ("close", "cure"),
    [
        (Close(4029, "Too many sessions"), "wait until another one has ended [close code 4029 (Too many sessions)]"),
        (Close(4001), "check it"),
        (Close(4002, "rate=7999"), "change it as the reason says [close code 4002 (rate=7999)]"),
        (Close(4003), "add credits"),
        (Close(4010), "try again"),
        (Close(4013), "no recognizer is free"),
        (Close(1000, NO_DATA), "keep sending"),
        (Close(1000, LIFETIME_REACHED), "begin a new one"),
        (Close(4999, "odd"), "ended the stream early: try again [close code 4999 (odd)]"),
    ],
)
async def test_any_other_ending_is_raised_after_the_last_message(close: Close, cure: str) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(FINAL.encode())
        await websocket.close(close.code, close.reason)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        await stream.end()
        assert await anext(stream) == FINAL
        for _ in range(2):  # as often as one asks
            with pytest.raises(Broken) as broken:
                await anext(stream)
        assert broken.value.close == stream.close == close
        assert cure in str(broken.value) == explain(close)


async def test_a_normal_close_without_eos_is_no_success() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(1000, END_OF_INPUT)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        with pytest.raises(Broken):
            await read(stream)
        await stream.end()  # too late, and no error: the iteration has told
        with pytest.raises(Broken):
            await read(stream)


async def test_a_connection_that_is_dropped_is_1006() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(FINAL.encode())
        await anext(aiter(websocket))
        websocket.transport.abort()

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        assert await anext(stream) == FINAL
        await stream.send(b"ab")
        with pytest.raises(Broken, match="the connection broke off: try again"):
            await read(stream)
        assert stream.close == Close(1006)


async def test_nothing_is_sent_after_an_end() -> None:
    heard: list[str | bytes] = []

    async def handler(websocket: ServerConnection) -> None:
        heard.append(await anext(aiter(websocket)))
        await websocket.close(4013)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        await stream.end()
        await stream.end()
        with pytest.raises(Closed, match="another stream"):
            await stream.send(b"ab")
        with pytest.raises(Broken):
            await read(stream)
    assert heard == ["EOS"]


async def test_send_raises_once_the_service_has_ended_the_stream() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.close(4010, "Restarting")

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        with pytest.raises(Broken, match="Restarting"):
            await send_for_ever(stream)
        assert stream.close == Close(4010, "Restarting")


async def test_unknown_messages_are_skipped() -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send('{"type": "weather"}')
        await websocket.send(b"\0\1")
        await websocket.send(FINAL.encode())
        await answer(websocket)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        await stream.end()
        assert await read(stream) == [FINAL, FINAL]


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
async def test_an_unreadable_message_is_an_error_and_is_not_skipped(text: str) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(text)
        await answer(websocket)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        await stream.end()
        with pytest.raises(Unreadable, match="check the address"):
            await anext(stream)
        assert await read(stream) == [FINAL]


async def test_a_service_that_sends_nothing_is_timed_out() -> None:
    done = asyncio.Event()

    async def handler(websocket: ServerConnection) -> None:
        await done.wait()

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        stream._first_timeout = 0.01  # the same time covers the opening, which may take a while
        await stream.send(b"sent before anything was said")
        with pytest.raises(TimedOut, match="sent nothing"):
            await anext(stream)
        done.set()


async def test_silence_later_is_no_error() -> None:
    """Nobody has to speak all the time."""
    asked = asyncio.Event()

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(Connected("1").encode())
        await asked.wait()
        await answer(websocket)

    async with serving(handler) as url, connect(url, REQUEST) as stream:
        await stream.end()
        reading = asyncio.create_task(read(stream))
        while stream._first_timeout is not None:  # noqa: ASYNC110 # nothing tells of it
            await asyncio.sleep(0)
        asked.set()
        assert await reading == [FINAL]


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "access token"), (404, "check the address"), (429, "later"), (502, "later"), (418, "check the address")],
)
async def test_an_http_error_raises_refused_with_its_cure(status: int, cure: str) -> None:
    def refuse(websocket: ServerConnection, request: Request) -> Response:
        return websocket.respond(HTTPStatus(status), request.path)

    async with serving(answer, refuse) as url:
        with pytest.raises(Refused, match=f"HTTP {status}") as refused:
            async with connect(url, REQUEST):
                pass
    assert cure in str(refused.value)
    assert TOKEN not in everything_in(refused.value)


async def test_another_kind_of_server_raises_refused() -> None:
    async def stranger(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(stranger, "127.0.0.1", 0) as server:
        with pytest.raises(Refused, match="is not a WebSocket service") as refused:
            async with connect(_base(server), REQUEST):
                pass
    assert TOKEN not in everything_in(refused.value)


async def test_a_server_that_accepts_and_sends_nothing_is_timed_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(TimedOut, match=f"ws://127.0.0.1:{port} did not answer within 0.05 s") as timed_out:
            async with connect(f"http://user:{TOKEN}@127.0.0.1:{port}", REQUEST, open_timeout=0.05):
                pass
    assert TOKEN not in everything_in(timed_out.value)


async def test_an_address_without_a_server_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"127.0.0.1:{port} cannot be reached") as unreachable:
        async with connect(f"ws://127.0.0.1:{port}", REQUEST):
            pass
    assert TOKEN not in everything_in(unreachable.value)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://host", "ws://", "ws://host:99999", "ws://[::1", f"ws://host?token={TOKEN}"]
)
async def test_an_unusable_url_is_unreachable(url: str) -> None:
    with pytest.raises(Unreachable, match="URL is not usable") as unreachable:
        async with connect(url, REQUEST):
            pass
    assert TOKEN not in everything_in(unreachable.value)


@pytest.mark.parametrize("extra", ["", "/", "//"])
async def test_a_base_url_is_taken_as_sdks_take_it(extra: str) -> None:
    async with serving(answer) as url, connect(url.replace("ws:", "http:") + extra, REQUEST) as stream:
        await stream.end()
        assert await read(stream) == [FINAL]


async def test_a_proxy_of_the_environment_is_not_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "socks_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:1")  # nobody's: RFC 5737
    monkeypatch.delenv("no_proxy", raising=False)
    async with serving(answer) as url, connect(url, REQUEST) as stream:
        await stream.end()
        assert await read(stream) == [FINAL]


async def test_the_token_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("websockets.server").setLevel(logging.INFO)  # the other side's business
    caplog.set_level(logging.DEBUG)
    async with serving(answer) as url, connect(url, REQUEST) as stream:
        await stream.end()
        await read(stream)
    assert TOKEN not in caplog.text


async def test_leaving_early_does_not_wait_for_a_service_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """send() waits for room, and the close frame behind it has none either."""
    monkeypatch.setattr(dial, "CLOSE_TIMEOUT", 0.05)
    left = asyncio.Event()

    async def handler(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        await left.wait()
        websocket.transport.abort()

    async with serving(handler) as url:
        async with connect(url, REQUEST) as stream:
            sending = asyncio.create_task(stream.send(bytes(2**23)))  # more than both kernels keep
            while not stream._websocket.paused:  # noqa: ASYNC110 # nothing tells of it
                await asyncio.sleep(0)
        await asyncio.gather(sending, return_exceptions=True)
        left.set()


def _base(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()
    return f"ws://{host}:{port}"
