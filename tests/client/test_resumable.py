"""The client that comes back, before a service that knows it again, over a wire that is cut."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from speechbridge.client import resumable
from speechbridge.client.dial import NoConnection
from speechbridge.client.resumable import connect_resumable
from speechbridge.client.stream import Broken, Closed, StreamError, Unreadable
from speechbridge.cluster.record import Record
from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.protocol.resume import Greeting
from speechbridge.server.resumable import UNKNOWN, About, ResumableConnection
from tests.helpers.cutting import cut_wire
from tests.helpers.puppet import until
from tests.helpers.service import STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from speechbridge.client.resumable import ResumableStream

PATIENCE = 90.0  # seconds; a run with fifty cuts takes about five
REQUEST = StreamRequest(ContentType.raw())
WORD = 400  # bytes of audio


def counting(audio: Iterator[bytes]) -> Iterator[str]:
    """Say a final for each word, which names its place and its content; a partial for each chunk."""
    heard, place = b"", 0
    for chunk in audio:
        heard += chunk
        yield Partial(place, place, (Element(f"{len(heard)} bytes"),)).encode()
        while len(heard) >= WORD:
            yield Final(place, place, (Element(f"{place}:{heard[:WORD].hex()[:16]}"),)).encode()
            heard, place = heard[WORD:], place + 1
    yield Final(place, place, (Element(f"{place}:{heard.hex()[:16]}"),)).encode()


async def speak(stream: ResumableStream, audio: bytes, chance: random.Random) -> None:
    sent = 0
    while sent < len(audio):
        size = chance.randrange(1, 700)
        await stream.send(audio[sent : sent + size])
        sent += size
        await asyncio.sleep(0)
    await stream.end()


async def transcript(stream: ResumableStream, audio: bytes, chance: random.Random) -> list[str]:
    speaking = asyncio.create_task(speak(stream, audio, chance))
    async with asyncio.timeout(PATIENCE):
        heard = [message.text async for message in stream if isinstance(message, Final)]
        await speaking
    return heard


def uncut(audio: bytes) -> list[str]:
    messages = [json.loads(response) for response in counting(iter([audio]))]
    return [message["elements"][0]["value"] for message in messages if message["type"] == "final"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_fifty_cuts_at_random_points_leave_the_transcript_as_it_is(seed: int) -> None:
    """In the middle of a message, of a handshake, of a close, while coming back: wherever the bytes run out."""
    chance = random.Random(seed)
    audio = chance.randbytes(80_000)
    lives = iter([5000, *(chance.randrange(1, 6000) for _ in range(49))])
    async with (
        service(counting) as server,
        cut_wire(server.url, lambda: next(lives, None)) as wire,
        connect_resumable(wire.url, REQUEST) as stream,
    ):
        heard = await transcript(stream, audio, chance)
        assert stream.close == Close(1000, "End of input. Closing")
        assert stream.cuts >= 40
    assert heard == uncut(audio)


@pytest.mark.slow
@settings(max_examples=10)
@example(lives=[711], size=421, seed=2)  # two finals and the close at once: confirming one failed, and hid the other
@given(lives=st.lists(st.integers(1, 900), max_size=4), size=st.integers(0, 3000), seed=st.integers(0, 99))
async def test_short_streams_survive_cuts_at_any_byte(lives: list[int], size: int, seed: int) -> None:
    chance = random.Random(seed)
    audio = chance.randbytes(size)
    left = iter([1000, *lives])
    async with (
        service(counting) as server,
        cut_wire(server.url, lambda: next(left, None)) as wire,
        connect_resumable(wire.url, REQUEST) as stream,
    ):
        assert await transcript(stream, audio, chance) == uncut(audio)


async def test_without_cuts_it_is_like_any_client() -> None:
    async with service(counting) as server, connect_resumable(server.url, REQUEST) as stream, asyncio.timeout(PATIENCE):
        await stream.send(b"x" * WORD)
        heard = [await anext(stream)]  # the final, and before it the partial, if it was in time
        await stream.end()
        with pytest.raises(Closed):
            await stream.send(b"more")
        heard += [message async for message in stream]
        assert [message.text for message in heard if isinstance(message, Final)] == uncut(b"x" * WORD)
        assert stream.cuts == 0


async def test_a_failure_of_the_service_is_told_after_what_was_heard() -> None:
    def failing(audio: Iterator[bytes]) -> Iterator[str]:
        yield Final(0, 0, (Element(f"{len(next(audio))} bytes"),)).encode()
        raise UpstreamClosed(Close(4003, "no credits"))

    async with service(failing) as server, connect_resumable(server.url, REQUEST) as stream, asyncio.timeout(PATIENCE):
        await stream.send(b"audio")
        heard = await anext(stream)
        assert heard.text == "5 bytes"
        with pytest.raises(Broken, match="no credits"):
            await anext(stream)
        with pytest.raises(Broken, match="no credits"):
            await stream.send(b"more")


async def test_a_service_that_is_gone_for_too_long_is_told() -> None:
    lives = iter([1500])

    async with (
        service(counting) as server,
        cut_wire(server.url, lambda: next(lives, 1)) as wire,
        connect_resumable(wire.url, REQUEST, away_seconds=0.3) as stream,
        asyncio.timeout(PATIENCE),
    ):
        await stream.send(bytes(2000))
        with pytest.raises(NoConnection):
            async for _ in stream:
                pass
        with pytest.raises(NoConnection):
            await stream.send(b"more")


async def test_nobody_there_at_first_is_told_at_once() -> None:
    with pytest.raises(NoConnection, match="cannot be reached"):
        async with connect_resumable("ws://127.0.0.1:1", REQUEST):
            pass


async def test_a_service_that_cannot_resume_is_told() -> None:
    async def revai(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"type": "connected", "id": "1"}))
        await connection.wait_closed()

    async with serve(revai, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        with pytest.raises(StreamError, match="cannot resume"):
            async with connect_resumable(url, REQUEST):
                pass


@pytest.mark.parametrize(
    ("kind", "said"), [(ContentType.undeclared(), "send such samples"), (ContentType.raw(), "as the reason says")]
)
async def test_a_container_that_the_service_has_forgotten_is_told_with_a_cure(kind: ContentType, said: str) -> None:
    """Samples begin a new stream, so that only a refusal of that ends them."""
    greeted = 0

    async def forgets(connection: ServerConnection) -> None:
        nonlocal greeted
        greeted += 1
        if greeted == 1:
            await connection.send(Greeting("1", "key", 0).encode())
            await connection.close(4010)
        await connection.close(UNKNOWN.code, UNKNOWN.reason)

    async with serve(forgets, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with asyncio.timeout(PATIENCE), connect_resumable(url, StreamRequest(kind)) as stream:
            with pytest.raises(Broken, match=said) as told:
                await anext(stream)
            assert told.value.close == UNKNOWN
            assert stream.restarts == (kind == ContentType.raw())


async def test_a_service_that_resumes_at_an_impossible_position_is_unreadable() -> None:
    async def odd(connection: ServerConnection) -> None:
        await connection.send(Greeting("1", "key", 1000).encode())
        await connection.wait_closed()

    async with serve(odd, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        with pytest.raises(Unreadable, match="position"):
            async with connect_resumable(url, REQUEST):
                pass


async def test_a_connection_on_which_nothing_comes_any_more_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No close frame tells of it, and pings only after a minute."""
    monkeypatch.setattr(resumable, "STALLED_SECONDS", 0.5)  # longer than a busy machine takes for a turn
    queries: list[str] = []

    async def stalls_once(connection: ServerConnection) -> None:
        assert connection.request
        queries.append(connection.request.path)
        await connection.send(Greeting("1", "key", 0).encode())
        if len(queries) == 1:
            await connection.wait_closed()
            return
        while await connection.recv() != "EOS":
            pass
        await connection.close(1000, END_OF_INPUT)

    async with serve(stalls_once, "127.0.0.1", 0) as server, asyncio.timeout(PATIENCE):
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with connect_resumable(url, REQUEST) as stream:
            await stream.send(bytes(20_000))
            await stream.end()
            assert [message async for message in stream] == []
            assert stream.cuts == 1
    assert "resume=key" in queries[1]


async def test_a_connection_on_which_nothing_is_to_come_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "STALLED_SECONDS", 0.01)
    async with service(counting) as server, connect_resumable(server.url, REQUEST) as stream:
        await asyncio.sleep(0.1)
        await stream.end()
        async for _ in stream:
            pass
        assert stream.cuts == 0


@pytest.mark.slow
async def test_leaving_does_not_wait_for_messages_that_nobody_takes() -> None:
    """The queue of messages is full then, also for the one that says that it is over."""
    async with service(counting) as server, asyncio.timeout(PATIENCE):
        async with connect_resumable(server.url, REQUEST) as stream:
            await stream.send(bytes(2 * resumable.AHEAD * WORD))
            while not stream._messages.full():  # noqa: ASYNC110 # nothing tells of it
                await asyncio.sleep(0.01)
        with pytest.raises(Closed, match="`async with` of this stream has ended"):
            await anext(stream)


async def test_sending_waits_while_too_much_is_not_confirmed() -> None:
    async with service(counting) as server, connect_resumable(server.url, REQUEST, room=20_000) as stream:
        most = 0

        async def send() -> None:
            nonlocal most
            for _ in range(50):
                await stream.send(bytes(4000))
                most = max(most, stream._replay.held)
            await stream.end()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(PATIENCE):
            assert len([m async for m in stream if isinstance(m, Final)]) == 50 * 4000 // WORD + 1
        await sending
        assert most <= 24_000


# ---- what the service promises, without our client -------------------------------------------------------------------


async def test_a_second_connection_with_the_key_closes_the_first() -> None:
    async with service(counting) as server, client(server, STREAM + "&resume=true") as first:
        connected = json.loads(await first.recv())
        assert connected["position"] == 0
        await first.send(bytes(WORD))
        final = await first.recv()
        while '"final"' not in str(final):
            final = await first.recv()
        async with client(server, f"/speechtotext/v1/stream?resume={connected['resume']}&finals=1") as second:
            again = json.loads(await second.recv())
            assert (again["id"], again["position"]) == (connected["id"], WORD)
            _, close = await ending(first)
            assert close.code == 4009
            await second.send("EOS")
            messages, close = await ending(second)
            assert close.code == 1000
            assert [json.loads(m)["elements"][0]["value"] for m in messages if '"final"' in str(m)] == ["1:"]


async def test_finals_that_were_not_confirmed_come_again_and_the_others_do_not() -> None:
    async with service(counting) as server:
        async with client(server, STREAM + "&resume=true") as first:
            key = json.loads(await first.recv())["resume"]
            await first.send(bytes(3 * WORD))
            finals = 0
            while finals < 3:
                finals += '"final"' in str(await first.recv())
            await first.send(json.dumps({"type": "received", "finals": 1}))
            first.transport.abort()
        async with client(server, f"/speechtotext/v1/stream?resume={key}&finals=2") as second:
            await second.recv()
            await second.send("EOS")
            messages, _ = await ending(second)
        places = [json.loads(m)["elements"][0]["value"].split(":")[0] for m in messages if '"final"' in str(m)]
        assert places == ["2", "3"]
        async with client(server, f"/speechtotext/v1/stream?resume={key}&finals=0") as third:
            _, close = await ending(third)
        assert close.code == 4002
        assert "finals" in close.reason


@pytest.mark.slow
async def test_of_several_that_come_back_at_once_the_last_one_stays() -> None:
    async with service(counting) as server, client(server, STREAM + "&resume=true") as first:
        key = json.loads(await first.recv())["resume"]
        path = f"/speechtotext/v1/stream?resume={key}"
        async with AsyncExitStack() as stack:
            more = [await stack.enter_async_context(client(server, path)) for _ in range(5)]
            over = [asyncio.create_task(ending(socket)) for socket in [first, *more]]
            done, pending = await asyncio.wait(over, timeout=1.0)
            assert [task.result()[1].code for task in done] == [4009] * 5
            [last] = pending
            for socket in more:
                if socket.close_code is None:
                    await socket.send("EOS")
            assert (await last)[1].code == 1000


async def test_an_unknown_key_is_refused() -> None:
    async with service(counting) as server, client(server, "/speechtotext/v1/stream?resume=guessed") as socket:
        assert (await ending(socket))[1].code == 4002


async def test_a_client_that_is_away_too_long_has_left() -> None:
    async with service(counting, resume_seconds=0.1) as server:
        async with client(server, STREAM + "&resume=true") as first:
            key = json.loads(await first.recv())["resume"]
            first.transport.abort()
        sessions = server.sessions
        lines = server.app.state.resumable._streams
        await until(lambda: not sessions.alive and key not in lines)
        async with client(server, f"/speechtotext/v1/stream?resume={key}&finals=0") as second:
            assert (await ending(second))[1].code == 4002


async def test_one_that_comes_back_too_late_is_not_told_that_all_was_heard() -> None:
    """Its audio was not ended, so the good end of the upstream is none for the client."""
    line = ResumableConnection(About("id"), Record("key", "", 0), away_seconds=60)
    line._leave()
    line.end(Close(1000, "End of input. Closing"))
    assert line._verdict == UNKNOWN
    assert await line.receive() is None


async def test_a_client_that_says_goodbye_has_left_at_once() -> None:
    async with service(counting) as server:
        async with client(server, STREAM + "&resume=true") as socket:
            await socket.recv()
        sessions = server.sessions
        async with asyncio.timeout(PATIENCE):
            await sessions.held.none()


@pytest.mark.parametrize("text", ['{"type": "something else"}', "[" * 100_000, "nonsense", '{"finals": "2"}'])
async def test_a_text_that_is_neither_eos_nor_a_confirmation_is_1007(text: str) -> None:
    async with service(counting) as server, client(server, STREAM + "&resume=true") as socket:
        await socket.recv()
        await socket.send(text)
        assert (await ending(socket))[1].code == 1007


async def test_a_plain_client_sees_no_difference() -> None:
    async with service(counting) as server, client(server, STREAM) as socket:
        connected = json.loads(await socket.recv())
        await socket.send(bytes(20_000))
        await socket.send("EOS")
        messages, close = await ending(socket)
    assert connected.keys() == {"type", "id"}
    assert {json.loads(message)["type"] for message in messages} == {"partial", "final"}
    assert close.code == 1000


async def test_a_response_that_cannot_be_sent_is_the_sdks_failure_on_a_line_that_lasts_too() -> None:
    """The line keeps responses and sends them later: whoever came back for it would be cut off again each time."""

    def odd(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield "\ud83d"  # half of a surrogate pair

    async with service(odd) as server, client(server, STREAM + "&resume=true") as socket:
        await socket.send("EOS")
        _, close = await ending(socket)
    assert close == Close(1011, "the speech SDK failed: UnicodeEncodeError")
