"""The client of the flows, against the service, and against servers with faults."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.client.dial import Unreachable
from speechbridge.client.flows import CHUNK, Busy, Failed, cut, flows
from speechbridge.client.stream import Broken, Closed, Unreadable
from speechbridge.protocol.close import Close
from speechbridge.protocol.messages import Element, Final, Partial
from tests.helpers.far_side import external, serving
from tests.helpers.secrets import secret
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

PARTIAL = Partial(0, 1, (Element("one"),))
FINAL = Final(0, 1, (Element("One", ts=0.0, end_ts=0.9), Element(".", "punct")))


def recognizer(audio: Iterator[bytes]) -> Iterator[str]:
    for _ in audio:
        yield PARTIAL.encode()
    yield FINAL.encode()


def answering(*answers: str | bytes) -> object:
    """Say these, whatever is asked, and then wait for the client to go."""

    async def handler(websocket: ServerConnection) -> None:
        for answer in answers:
            await websocket.send(answer)
        async for _ in websocket:
            pass

    return handler


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def test_every_flow_runs_on_one_connection_any_number_of_times(tmp_path: Path) -> None:
    async with (
        external("answer to") as url,
        service(recognizer, files_dir=tmp_path, proxy_url=url) as server,
        flows(server.url) as connection,
    ):
        for _ in range(2):
            assert await connection.text("Hello") == "Hello"
            await connection.file(b"content")
            assert await connection.proxy("question") == "answer to question"
            async with connection.audio() as audio:
                await audio.send(b"ab")
                await audio.end()
                assert [message async for message in audio] == [PARTIAL, FINAL]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"content"] * 2


async def test_a_path_bytes_and_pieces_arrive_whole(tmp_path: Path) -> None:
    content = os.urandom(3 * CHUNK + 1)
    path = tmp_path / "sent"
    path.write_bytes(content)
    told: list[int] = []
    async with service(files_dir=tmp_path / "stored") as server, flows(server.url) as connection:
        await connection.file(path, sent=told.append)
        await connection.file(content)
        await connection.file(pieces(content[:1], b"", content[1:]))
    assert [stored.read_bytes() for stored in (tmp_path / "stored").iterdir()] == [content] * 3
    assert told == [CHUNK, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 1]


@pytest.mark.parametrize("content", [b"", b"EOF", bytes(CHUNK) + b"EOF", b"EOFEOF"])
async def test_content_that_looks_like_the_end_arrives_whole(content: bytes, tmp_path: Path) -> None:
    async with service(files_dir=tmp_path) as server, flows(server.url) as connection:
        await connection.file(content)
        await connection.file(pieces(content, b"EOF", b"!"))
        assert await connection.text("still there?") == "still there?"
    assert {stored.read_bytes() for stored in tmp_path.iterdir()} == {content, content + b"EOF!"}


@given(st.binary(max_size=8) | st.just(b"EOF"), st.integers(0, 2))
def test_chunks_are_the_whole_and_none_is_the_end(piece: bytes, filled: int) -> None:
    piece = bytes(filled * CHUNK) + piece
    chunks = list(cut(piece))
    assert b"".join(chunks) == piece
    assert b"EOF" not in chunks
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)


async def test_a_refused_file_raises_failed_before_it_is_sent(tmp_path: Path) -> None:
    """The source never comes to its end."""

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(11)
        await asyncio.Event().wait()

    async with service(files_dir=tmp_path, max_file_bytes=10) as server, flows(server.url) as connection:
        with pytest.raises(Failed, match="file: the file is larger than 10 bytes; nothing was stored"):
            await connection.file(endless())
        assert await connection.text("still there?") == "still there?"


async def test_the_connection_stays_usable_after_a_file_is_refused_while_it_is_sent(tmp_path: Path) -> None:
    async with service(files_dir=tmp_path, max_file_bytes=10) as server, flows(server.url) as connection:
        for _ in range(2):
            with pytest.raises(Failed):
                await connection.file(bytes(2**22))
        await connection.file(b"small")
        assert await connection.text("still there?") == "still there?"
    [stored] = tmp_path.iterdir()
    assert stored.read_bytes() == b"small"


async def test_a_path_that_does_not_exist_begins_no_flow(tmp_path: Path) -> None:
    async with service() as server, flows(server.url) as connection:
        with pytest.raises(FileNotFoundError):
            await connection.file(tmp_path / "missing")
        with pytest.raises(UnicodeEncodeError):
            await connection.text("\udcff")
        assert await connection.text("still there?") == "still there?"


async def test_after_a_source_fails_nothing_is_stored_and_the_connection_is_busy(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    async with service(files_dir=tmp_path) as server, flows(server.url) as connection:
        with pytest.raises(ZeroDivisionError):
            await connection.file(failing())
        with pytest.raises(Busy, match="the file flow has not ended: wait for its end, or open another"):
            await connection.text("too late")
    assert list(tmp_path.iterdir()) == []


async def test_failed_has_the_text_of_the_service() -> None:
    async with service() as server, flows(server.url) as connection:
        with pytest.raises(Failed, match=r"^proxy: there is no external server: SPEECHBRIDGE_PROXY_URL is not set$"):
            await connection.proxy("question")
        assert await connection.text("still there?") == "still there?"


async def test_captions_arrive_while_audio_is_sent() -> None:
    async with service(recognizer) as server, flows(server.url) as connection, connection.audio() as audio:
        for _ in range(3):
            await audio.send(b"ab")
            assert await anext(audio) == PARTIAL
        await audio.end()
        await audio.end()
        with pytest.raises(Closed, match="begin another flow"):
            await audio.send(b"ab")
        assert [message async for message in audio] == [FINAL]
        assert [message async for message in audio] == []


async def test_leaving_an_audio_flow_early_ends_it() -> None:
    async with service(recognizer) as server, flows(server.url) as connection:
        async with connection.audio() as audio:
            await audio.send(b"ab")
        assert await connection.text("still there?") == "still there?"


async def test_a_failed_transcription_leaves_no_answers_for_the_next_flow() -> None:
    """Audio that was on its way is refused message by message: those refusals belong to nobody."""

    def failing(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield PARTIAL.encode()
        raise ZeroDivisionError

    async with service(failing) as server, flows(server.url) as connection:
        async with connection.audio() as audio:
            for _ in range(10):
                await audio.send(b"ab")
            await audio.end()
            assert await anext(audio) == PARTIAL
            for _ in range(2):  # as often as one asks
                with pytest.raises(Failed, match=r"audio: the transcription ended .*1011"):
                    await anext(audio)
        assert await connection.text("one") == "one"
        assert await connection.text("two") == "two"


async def test_a_transcription_that_ends_before_the_audio_raises_failed() -> None:
    def hasty(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield FINAL.encode()

    async with service(hasty) as server, flows(server.url) as connection:
        async with connection.audio() as audio:
            await audio.send(b"ab")
            assert await anext(audio) == FINAL
            with pytest.raises(Failed, match=r"ended early|before the audio did"):
                await anext(audio)
            with pytest.raises(Closed):
                await audio.send(b"ab")
        assert await connection.text("still there?") == "still there?"


async def test_answers_to_leftover_audio_are_skipped() -> None:
    late = ("Error: a binary message of 2 bytes is no flow: send", "Error: 'EOS' is no flow: send")
    said = ("Error: it broke", *late, "Audio transcribed", "Echo: one")
    async with serving(answering(*said)) as url, flows(url) as connection:  # type: ignore[arg-type] # a handler
        for failure in ("audio: it broke", "before the audio did"):
            async with connection.audio() as audio:
                with pytest.raises(Failed, match=failure):
                    await anext(audio)
        assert await connection.text("one") == "one"


async def test_a_flow_within_another_raises_busy_and_disturbs_neither() -> None:
    async with service(recognizer) as server, flows(server.url) as connection:
        async with connection.audio() as audio:
            with pytest.raises(Busy, match="the audio flow"):
                await connection.text("Hello")
            await audio.end()
            assert [message async for message in audio] == [FINAL]
        assert await connection.text("Hello") == "Hello"


async def test_after_a_cancelled_flow_the_connection_is_busy() -> None:
    async with serving(answering()) as url, flows(url) as connection:  # type: ignore[arg-type] # a handler
        asking = asyncio.create_task(connection.proxy("question"))
        while not connection._channel.flow:  # noqa: ASYNC110 # nothing tells of it
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        with pytest.raises(Busy, match="the proxy flow"):
            await connection.text("Hello")


@pytest.mark.parametrize("answer", ["Hello", "External response: Hello", b"Echo: Hello", ""])
async def test_an_unexpected_answer_is_unreadable(answer: str | bytes) -> None:
    async with serving(answering(answer)) as url, flows(url) as connection:  # type: ignore[arg-type] # a handler
        with pytest.raises(Unreadable, match="check the address"):
            await connection.text("Hello")


async def test_a_malformed_response_is_unreadable_and_unknown_ones_are_skipped() -> None:
    said = ('{"type": "weather"}', "Get b'one'", FINAL.encode(), "Audio transcribed")
    async with serving(answering(*said)) as url, flows(url) as connection, connection.audio() as audio:  # type: ignore[arg-type] # a handler
        await audio.end()
        with pytest.raises(Unreadable, match="audio: a message of 10 characters"):
            await anext(audio)
        assert [message async for message in audio] == [FINAL]


@pytest.mark.parametrize("flow", ["text", "proxy", "file", "audio"])
@pytest.mark.parametrize("close", [Close(1012), Close(4010, "Restarting"), Close(1006)])
async def test_a_connection_that_ends_during_a_flow_is_broken(flow: str, close: Close) -> None:
    async def handler(websocket: ServerConnection) -> None:
        assert await websocket.recv() == flow
        if close.code == 1006:
            websocket.transport.abort()
        else:
            await websocket.close(close.code, close.reason)

    async with serving(handler) as url, flows(url) as connection:
        with pytest.raises(Broken) as broken:  # noqa: PT012 # one flow of four
            match flow:
                case "text":
                    await connection.text("Hello")
                case "proxy":
                    await connection.proxy("Hello")
                case "file":
                    await connection.file(b"Hello")
                case "audio":
                    async with connection.audio() as audio:
                        await audio.end()
                        await anext(audio)
    assert broken.value.close == close


async def test_an_echo_may_be_as_large_as_the_service_accepts() -> None:
    text = "x" * (8 * 2**20)
    async with service(max_message_bytes=len(text)) as server, flows(server.url) as connection:
        assert await connection.text(text) == text


async def test_a_url_with_a_query_is_not_usable_and_not_shown() -> None:
    for url in (f"ws://host?token={secret()}", "host", f"ws://host#{secret()}"):
        with pytest.raises(Unreachable, match="URL is not usable") as unreachable:
            async with flows(url):
                pass
        assert secret() not in str(unreachable.value)
