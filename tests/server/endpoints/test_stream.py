"""The streaming endpoints over a real socket, with a stub in the SDK's place."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from typing import TYPE_CHECKING

import httpx2
import pytest
from fastapi.testclient import TestClient
from websockets.exceptions import InvalidStatus

from speechbridge.engines import Upstream, UpstreamClosed
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.server import create_app
from speechbridge.server.sending import Sender
from tests.helpers.puppet import until
from tests.helpers.secrets import secret
from tests.helpers.service import PATIENCE, STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.protocol.request import StreamRequest


def count(audio: Iterator[bytes]) -> Iterator[str]:
    digest, size = hashlib.sha256(), 0
    for chunk in audio:
        digest.update(chunk)
        size += len(chunk)
    yield f"{size} {digest.hexdigest()}"


def test_a_stub_answers_each_chunk_before_the_next_is_sent() -> None:
    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        for chunk in audio:
            yield f"Get {chunk!r}"

    with TestClient(create_app(stream_client_start=stub)).websocket_connect("/ws_a") as socket:
        for chunk in (b"one", b"two", b"three"):
            socket.send_bytes(chunk)
            assert socket.receive_text() == f"Get {chunk!r}"


@pytest.mark.parametrize("slashes", ["", "/"])
async def test_rev_ai_s_protocol_greets_and_ends_as_rev_ai_does(slashes: str) -> None:
    """SDKs given a base URL with a trailing slash ask for a path with two."""
    async with service(count) as server, client(server, slashes + STREAM) as socket:
        connected = json.loads(await socket.recv())
        assert connected["type"] == "connected"
        assert connected["id"]
        await socket.send(b"\0" * 3200)
        await socket.send("EOS")
        messages, close = await ending(socket)
    assert [str(message).split()[0] for message in messages] == ["3200"]
    assert close == Close(1000, END_OF_INPUT)


OGG = b"OggS\x00\x02" + bytes(22) + b"\x01\x1e\x01vorbis"
MP3 = (b"\xff\xfb\x50\x64" + bytes(204)) * 10  # 64 kbit/s, 44.1 kHz


@pytest.mark.parametrize("path", [STREAM, f"{STREAM}&resume=true"])
@pytest.mark.parametrize(("content", "name", "media"), [(OGG, "Ogg", "audio/ogg"), (MP3, "MP3", "audio/mpeg")])
@pytest.mark.parametrize("size", [16, 3200])
async def test_what_is_no_raw_audio_is_refused_while_it_still_comes(
    path: str, content: bytes, name: str, media: str, size: int
) -> None:
    """The client never says EOS."""
    async with service(count) as server, client(server, path) as socket:
        for start in range(0, len(content), size):
            await socket.send(content[start : start + size])
        await socket.send(bytes(3200))
        _, close = await ending(socket)
    assert close == Close(4002, f"this is {name}, not raw samples: send content_type={media}")
    assert not close.is_retryable


async def test_a_stream_that_is_too_short_to_be_told_at_once_is_refused_at_its_end() -> None:
    async with service(count) as server, client(server, STREAM) as socket:
        for start in range(len(OGG)):
            await socket.send(OGG[start : start + 1])
        await socket.send("EOS")
        assert (await ending(socket))[1].code == 4002


async def test_chunks_that_wait_for_the_upstream_go_as_one_where_it_takes_a_stream_of_bytes() -> None:
    go_on = threading.Event()

    def slow(audio: Iterator[bytes]) -> Iterator[str]:
        go_on.wait(PATIENCE)
        for chunk in audio:
            yield chunk.decode()

    async with service() as server:
        sessions = server.sessions
        sessions.engine = lambda _request: Upstream(slow, join=b"".join)
        async with client(server) as socket:
            for chunk in (b"one", b"two", b"three"):
                await socket.send(chunk)
            await until(lambda: [s._bridge.statistics().sent for s in sessions._alive if s._bridge] == [3])
            go_on.set()
            await socket.send("EOS")
            messages, _ = await ending(socket)
    assert messages == ["onetwothree"]


async def test_in_a_crowd_short_messages_go_to_the_upstream_in_pieces_of_100_ms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Sender.send

    async def send(sender: Sender, audio: bytes, hold: float = 0.0) -> None:
        await real(sender, audio, hold and 60.0)  # so that no slow machine ends it

    monkeypatch.setattr(Sender, "send", send)
    async with service() as server:
        sessions = server.sessions
        sessions.engine = lambda _request: Upstream(lambda audio: (str(len(chunk)) for chunk in audio), join=b"".join)
        async with client(server) as socket:
            await socket.send(bytes(640))
            assert await socket.recv() == "640"  # one is no crowd
            monkeypatch.setattr("speechbridge.server.intake.COLLECT_FROM", 1)
            for messages in (4, 5, 2):
                for _ in range(messages):
                    await socket.send(bytes(640))
                if messages == 2:
                    await socket.send("EOS")
                assert await socket.recv() == str(640 * messages)
            await ending(socket)


async def test_audio_sent_before_connected_is_kept() -> None:
    async with service(count) as server, client(server, STREAM) as socket:
        await socket.send(b"early")
        await socket.send("EOS")
        messages, _ = await ending(socket)
    assert str(messages[-1]).startswith("5 ")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?content_type=audio/midi", "audio/x-wav"),
        ("?content_type=audio/x-raw", "lacks layout, rate, format, channels"),
        ("?content_type=" + "%F0%9F%98%80" * 40, "audio/x-wav"),
        ("?content_type=audio/x-raw;layout=interleaved;rate=16000;format=S16LE", "lacks channels"),
        (STREAM.partition("?")[2].join(["?", "&start_ts=soon"]), "0 or more"),
    ],
)
async def test_a_bad_request_is_4002_with_a_reason(query: str, said: str) -> None:
    async with service(count) as server, client(server, "/speechtotext/v1/stream" + query) as socket:
        messages, close = await ending(socket)
    assert messages == []
    assert close.code == 4002
    assert said in close.reason


async def test_without_a_type_bytes_that_tell_none_are_4002_with_a_reason() -> None:
    async with service(count) as server, client(server, "/speechtotext/v1/stream") as socket:
        await socket.send(b"these are no audio")
        messages, close = await ending(socket)
    assert [json.loads(message)["type"] for message in messages] == ["connected"]
    assert close.code == 4002
    assert "content_type is missing" in close.reason


async def test_a_text_that_is_not_eos_is_1007() -> None:
    async with service() as server, client(server) as socket:
        await socket.send("eos")
        _, close = await ending(socket)
    assert close.code == 1007
    assert "EOS" in close.reason


async def test_odd_tiny_empty_and_fragmented_messages_arrive_byte_for_byte() -> None:
    messages = [b"\x01", b"", b"\x02\x03\x04", b"E", b"EOS", bytes(65537), b""]
    async with service(count) as server, client(server) as socket:
        for message in messages:
            await socket.send(message)
        await socket.send([b"frag", b"", b"mented"])
        await socket.send("EOS")
        await socket.send(b"after the end, thrown away")
        await socket.send("EOS")
        answers, close = await ending(socket)
    sent = b"".join([*messages, b"fragmented"])
    assert answers == [f"{len(sent)} {hashlib.sha256(sent).hexdigest()}"]
    assert close.code == 1000


async def test_no_audio_at_all_ends_well() -> None:
    async with service() as server, client(server) as socket:
        await socket.send("EOS")
        assert await ending(socket) == ([], Close(1000, END_OF_INPUT))


async def test_a_message_above_the_limit_is_1009() -> None:
    async with service(max_message_bytes=1024) as server, client(server) as socket:
        await socket.send(bytes(1025))
        _, close = await ending(socket)
    assert close.code == 1009


async def test_a_client_that_just_leaves_still_ends_the_input() -> None:
    heard: list[bytes] = []
    over = threading.Event()

    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        heard.extend(audio)
        over.set()
        yield "to nobody"

    async with service(stub) as server:
        async with client(server) as socket:
            await socket.send(b"last words")
        assert await asyncio.to_thread(over.wait, PATIENCE)
    assert heard == [b"last words"]


@pytest.mark.parametrize("leave", ["close", "vanish"])
async def test_what_the_sdk_says_to_a_client_that_left_is_heard_to_its_end(
    leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first send to a client that left fails in one way, later ones in another: neither is the SDK's failure."""
    left, over = threading.Event(), threading.Event()

    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"heard {len(next(audio))}"
        left.wait(PATIENCE)
        yield from ("to", "nobody", "at", "all")
        over.set()

    async with service(stub) as server:
        async with client(server) as socket:
            await socket.send(b"audio")
            await socket.recv()
            if leave == "vanish":
                socket.transport.abort()
        left.set()
        assert await asyncio.to_thread(over.wait, PATIENCE)
    assert "failed" not in caplog.text


async def test_one_session_too_many_is_refused_and_the_others_go_on() -> None:
    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        for chunk in audio:
            yield f"Get {chunk!r}"

    async with service(stub, max_sessions=2) as server, client(server) as first, client(server, STREAM) as second:
        await second.recv()
        await first.send(b"a")
        assert await first.recv() == "Get b'a'"
        async with client(server, STREAM) as third:
            messages, close = await ending(third)
        await first.send(b"b")
        assert await first.recv() == "Get b'b'"
    assert messages == []
    assert close == Close(4029, "all 2 streams are in use: try again when one has ended")


async def test_the_slot_of_an_ended_session_is_free_once_its_client_knows() -> None:
    async with service(max_sessions=1) as server:
        for _ in range(20):
            async with client(server) as socket:
                await socket.send("EOS")
                _, close = await ending(socket)
                assert close.code == 1000


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UpstreamClosed(Close(4003, "no credits")), Close(4003, "no credits")),
        (UpstreamClosed(Close(1006)), Close(1011)),
        (UpstreamClosed(Close(1013, "later")), Close(4013, "later")),
        (ZeroDivisionError("secret"), Close(1011, "the speech SDK failed: ZeroDivisionError")),
    ],
)
async def test_messages_before_a_failure_arrive_then_a_close_with_the_reason(error: Exception, expected: Close) -> None:
    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"heard {len(next(audio))}"
        raise error

    async with service(stub) as server, client(server) as socket:
        await socket.send(b"audio")
        assert await ending(socket) == (["heard 5"], expected)


async def test_a_callable_that_takes_the_request_gets_it() -> None:
    def stub(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        yield str(request.options["metadata"])

    async with service(stub) as server, client(server, STREAM + "&metadata=mine") as socket:
        messages, _ = await ending(socket)
    assert messages[1:] == ["mine"]


async def test_at_shutdown_streams_get_their_last_words_and_4010() -> None:
    last_words = threading.Event()

    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"first {len(next(audio))}"
        for _ in audio:
            pass
        last_words.wait(PATIENCE)
        yield "last words"

    async with service(stub) as server, client(server) as socket:
        await socket.send(b"audio")
        await socket.recv()
        server.stop()
        last_words.set()
        messages, close = await ending(socket)
    assert messages == ["last words"]
    assert close.code == 4010


async def test_while_it_drains_it_is_not_ready_and_refuses_with_503_before_the_handshake() -> None:
    release = threading.Event()

    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"first {len(next(audio))}"
        release.wait(PATIENCE)
        yield "last words"

    async with service(stub) as server, client(server) as socket, httpx2.AsyncClient() as http:
        url = server.url.replace("ws://", "http://")
        await socket.send(b"audio")
        await socket.recv()
        assert (await http.get(f"{url}/readyz")).status_code == 200
        server.stop()
        await until(lambda: server.app.state.sessions.draining)
        assert (await http.get(f"{url}/readyz")).status_code == 503
        assert (await http.get(f"{url}/livez")).status_code == 200
        with pytest.raises(InvalidStatus, match="HTTP 503"):
            async with client(server):
                pass
        release.set()
        messages, close = await ending(socket)
    assert messages == ["last words"]
    assert close.code == 4010


@pytest.mark.slow
async def test_shutdown_does_not_wait_for_an_sdk_that_says_nothing() -> None:
    release = threading.Event()

    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"first {len(next(audio))}"
        release.wait(PATIENCE)

    async with service(stub, drain_seconds=0) as server, client(server) as socket:
        await socket.send(b"audio")
        await socket.recv()
        server.stop()
        _, close = await ending(socket)
        release.set()
    assert close.code == 4010


async def test_the_token_in_a_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with service() as server, client(server, STREAM + f"&metadata=Tom's&access_token={secret()}") as socket:
        await socket.send("EOS")
        await ending(socket)
        assert server.url
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("websockets.client")]
    assert any("speechtotext" in message for message in ours)
    assert not any(secret() in message for message in ours)


async def test_an_unknown_path_is_refused_before_the_handshake() -> None:
    async with service() as server:
        with pytest.raises(InvalidStatus, match="HTTP 404"):
            async with client(server, "/nowhere"):
                pass


IN_PROCESSOR = threading.Event()


async def never_done(message: str) -> str:
    """A processor that keeps what it is given."""
    IN_PROCESSOR.set()
    await asyncio.Event().wait()
    return message


@pytest.mark.parametrize("resume", ["", "&resume=true"])
async def test_when_the_drain_s_time_is_up_a_response_in_a_processor_is_not_waited_for(resume: str) -> None:
    """Its client was told 1012 by the server in the end, and that late."""

    def stub(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            yield "heard"

    processor = f"{__name__}:{never_done.__name__}"
    settings = {"processors": processor, "processor_seconds": 60, "drain_seconds": 0.1}
    IN_PROCESSOR.clear()
    async with service(stub, **settings) as server, client(server, STREAM + resume) as socket:
        await socket.recv()
        await socket.send(b"\0" * 3200)
        await until(IN_PROCESSOR.is_set)
        await server.app.state.sessions.drain()
        _, close = await ending(socket)
    assert close.code == 4010
