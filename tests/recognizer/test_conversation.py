"""The server's side of Rev.ai's protocol, with a recognizer that only counts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from speechbridge.protocol.close import END_OF_INPUT, NO_DATA, Close
from speechbridge.protocol.messages import Connected, Element, Final, Partial, parse_message
from speechbridge.protocol.request import PATH, BadRequest, StreamRequest
from speechbridge.recognizer.conversation import Refused, RevAi
from speechbridge.recognizer.server import Connection, Gone, serving
from tests.helpers.raw_client import QUERY, Client, client
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import Sequence

END = Close(1000, END_OF_INPUT)


@dataclass
class Counted:
    """Tells by a final how many bytes it was given, and refuses to when told so."""

    failure: Exception | None = None
    piece: int = 1000
    pieces: list[int] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Queue[Partial | Final | None] = field(default_factory=asyncio.Queue)

    def open(self, request: StreamRequest) -> Counted:
        if request.options.get("language") == "xx":
            raise BadRequest("only English")
        if request.options.get("priority") == "full":
            raise Refused(Close(4013, "full"))
        return self

    async def feed(self, audio: bytes) -> None:
        if self.failure:
            raise self.failure
        self.pieces.append(len(audio))
        self.said.put_nowait(Partial(0, 1, (Element(str(len(audio))),)))

    async def finish(self) -> None:
        self.said.put_nowait(Final(0, 1, (Element(str(sum(self.pieces))),)))
        self.said.put_nowait(None)

    async def next(self) -> Partial | Final | None:
        return await self.said.get()

    def close(self) -> None:
        self.left.set()


def texts(messages: Sequence[str | bytes]) -> list[str]:
    heard = [parse_message(message) for message in messages if isinstance(message, str)]
    return [message.text for message in heard if isinstance(message, Partial | Final)]


@pytest.mark.parametrize("path", [PATH, "/" + PATH])
async def test_a_conversation_from_connected_to_the_end_of_input(path: str) -> None:
    async with serving(RevAi(Counted())) as server, client(server.url, path=path) as c:
        connected = parse_message(str(await c.next()))
        assert isinstance(connected, Connected)
        assert connected.id
        await c.send(b"x" * 500)
        assert texts([await c.next()]) == ["500"], "while audio may still come"
        await c.send("EOS")
        messages, close = await c.rest()
    assert texts(messages) == ["500"]
    assert close == END


async def test_messages_empty_fragmented_and_long_are_exact_bytes() -> None:
    recognizer = Counted()
    async with serving(RevAi(recognizer)) as server, client(server.url) as c:
        await c.send(b"")
        await c.send(b"x")
        await c.send([b"x" * 300, b"", b"x" * 201])
        await c.send(b"EOS")  # as bytes it is audio
        await c.send(b"x" * 2500)
        await c.send("EOS")
        await c.rest()
    assert recognizer.pieces == [1, 501, 3, 1000, 1000, 500]


async def test_no_audio_at_all_is_a_success() -> None:
    async with serving(RevAi(Counted())) as server, client(server.url) as c:
        await c.send("EOS")
        assert (await c.rest())[1] == END


async def test_audio_and_eos_after_eos_are_tolerated() -> None:
    async with serving(RevAi(Counted())) as server, client(server.url) as c:
        for message in ("EOS", b"late", "EOS"):
            await c.send(message)
        assert (await c.rest())[1] == END


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        (f"access_token={secret()}", 4002, "content_type is missing"),
        (f"{QUERY}&language=xx", 4002, "only English"),
        (f"{QUERY}&priority=full", 4013, "full"),
    ],
)
async def test_a_refusal_is_a_close_frame_with_a_reason(query: str, code: int, said: str) -> None:
    async with serving(RevAi(Counted())) as server, client(server.url, query) as c:
        messages, close = await c.rest()
    assert messages == []
    assert close
    assert close.code == code
    assert said in close.reason


@pytest.mark.parametrize(
    ("failure", "close"),
    [
        (BadRequest("send WAV"), Close(4002, "send WAV")),
        (Refused(Close(4010, "died")), Close(4010, "died")),
        (RuntimeError("secret"), Close(1011, "internal error")),
    ],
)
async def test_a_recognizer_that_fails_is_a_close_frame_too(failure: Exception, close: Close) -> None:
    recognizer = Counted(failure)
    async with serving(RevAi(recognizer)) as server, client(server.url) as c:
        await c.send(b"x")
        assert (await c.rest())[1] == close
    assert recognizer.left.is_set()


async def test_any_other_text_is_invalid() -> None:
    async with serving(RevAi(Counted())) as server, client(server.url) as c:
        await c.send("eos")
        _, close = await c.rest()
    assert close
    assert close.code == 1007


async def test_a_message_that_is_too_big_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechbridge.recognizer.server.MAX_MESSAGE", 1000)
    async with serving(RevAi(Counted())) as server, client(server.url) as c:
        await c.send(b"x" * 1001)
        _, close = await c.rest()
    assert close
    assert close.code == 1009


async def test_a_connection_without_frames_is_closed() -> None:
    async with serving(RevAi(Counted(), idle_seconds=0.01)) as server, client(server.url) as c:
        assert (await c.rest())[1] == Close(1000, NO_DATA)


async def test_a_client_that_leaves_gives_its_place_back() -> None:
    recognizer = Counted()
    async with serving(RevAi(recognizer)) as server, client(server.url) as c:
        await c.next()
        c.connection.transport.abort()
        async with asyncio.timeout(5):
            await recognizer.left.wait()


async def test_shutdown_closes_every_connection_with_4010() -> None:
    recognizer = Counted()
    async with serving(RevAi(recognizer)) as server:
        c = await (context := client(server.url)).__aenter__()
        await c.next()
    _, close = await c.rest()
    await context.__aexit__(None, None, None)
    assert close
    assert close.code == 4010
    assert recognizer.left.is_set()


async def test_shutdown_does_not_wait_for_a_request_that_never_comes() -> None:
    async with serving(RevAi(Counted())) as server:
        host, port = server.url.removeprefix("ws://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET ")
        async with client(server.url) as c:  # the server has seen the first connection, when it sees the second
            await c.next()
    assert await reader.read() == b""
    writer.close()


async def send_for_ever(c: Client) -> None:
    while True:
        await c.send(b"x" * 100_000)


async def test_a_close_frame_is_not_lost_on_a_client_that_still_sends() -> None:
    """Were TCP dropped at once, the client's next chunk would be answered by a reset that overtakes the frame."""
    async with serving(RevAi(Counted(Refused(Close(4010, "died"))))) as server, client(server.url) as c:
        with pytest.raises(ConnectionClosed) as closed:
            await send_for_ever(c)
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 4010


async def test_other_paths_are_not_found() -> None:
    async with serving(RevAi(Counted())) as server:
        with pytest.raises(InvalidStatus) as refused:
            await client(server.url, path="/nowhere").__aenter__()
        assert refused.value.response.status_code == 404


async def test_the_token_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(RevAi(Counted(RuntimeError()))) as server, client(server.url) as c:
        await c.send(b"x")
        await c.rest()
    ours = [record for record in caplog.records if not record.name.startswith("websockets.client")]
    assert "a connection failed" in [record.getMessage() for record in ours]
    assert not [record for record in ours if secret() in record.getMessage()]


async def test_what_is_said_does_not_wait_for_more_audio() -> None:
    """A partial may be ready a while after its audio came, and the client may be silent then."""
    recognizer = Counted()
    async with serving(RevAi(recognizer)) as server, client(server.url) as c:
        await c.next()
        recognizer.said.put_nowait(Partial(0, 1, (Element("late"),)))
        assert texts([await c.next()]) == ["late"]


class Broken(Counted):
    """Fails where it says something, not where it hears."""

    async def next(self) -> Partial | Final | None:
        raise RuntimeError("secret")


async def test_a_recognizer_that_fails_to_speak_ends_the_conversation_too() -> None:
    recognizer = Broken()
    async with serving(RevAi(recognizer)) as server, client(server.url) as c:
        assert (await c.rest())[1] == Close(1011, "internal error")
    assert recognizer.left.is_set()


class Talkative:
    """Says more than any buffer holds."""

    def __init__(self) -> None:
        self.dropped = asyncio.Event()

    async def admit(self, connection: Connection) -> None:
        pass

    async def handle(self, connection: Connection) -> None:
        try:
            while True:
                await connection.send("x" * 100_000)
        except Gone:
            self.dropped.set()
            raise


async def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechbridge.recognizer.server.SEND_TIMEOUT", 0.05)
    talkative = Talkative()
    async with serving(talkative) as server, client(server.url) as c:
        c.connection.transport.pause_reading()
        async with asyncio.timeout(10):
            await talkative.dropped.wait()
        c.connection.transport.abort()
