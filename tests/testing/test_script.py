"""The scripted recognizer does what its script says, and records what it receives."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import InvalidStatus

from speechbridge.protocol.close import END_OF_INPUT, LIFETIME_REACHED, NO_DATA, Close
from speechbridge.protocol.messages import Connected, Final, Partial, parse_message
from speechbridge.protocol.request import PATH
from speechbridge.recognizer.server import serving
from speechbridge.testing.script import (
    NORMAL,
    Accept,
    AnswerClose,
    Drop,
    Echo,
    End,
    Greet,
    Say,
    Script,
    Scripted,
    Status,
    Step,
    StopReading,
    Total,
    Wait,
    final,
    partial,
)
from tests.helpers.raw_client import QUERY, client
from tests.helpers.raw_websocket import raw
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import Sequence


async def play(*steps: Step, send: Sequence[bytes | str] = ()) -> tuple[list[str | bytes], Close | None]:
    """Send these messages to a script; return all that comes back."""
    async with serving(Scripted(steps)) as server, client(server.url) as c:
        for message in send:
            await c.send(message)
        return await c.rest()


async def test_by_default_each_chunk_and_the_total_are_answered() -> None:
    scripted = Scripted()
    async with serving(scripted) as server, client(server.url) as c:
        assert isinstance(parse_message(str(await c.next())), Connected)
        for number in (1, 2):
            await c.send(b"x" * 100)
            heard = parse_message(str(await c.next()))
            assert isinstance(heard, Partial)
            assert heard.text == f"chunk {number}"
        await c.send("EOS")
        (total,), close = await c.rest()
    heard = parse_message(str(total))
    assert isinstance(heard, Final)
    assert heard.text == "200 bytes"
    assert close == Close(1000, END_OF_INPUT)


async def test_everything_that_was_received_is_recorded() -> None:
    scripted = Scripted(keep=True)
    sent: list[bytes | str] = [b"one", b"", b"three", "EOS", b"late", "EOS"]
    async with serving(scripted) as server, client(server.url, QUERY + "&start_ts=1.5") as c:
        seen = await scripted.client()
        for message in sent:
            await c.send(message)
        await c.rest()
        await seen.until(lambda seen: seen.over)
    assert seen.parameters["access_token"] == secret()
    assert seen.parameters["start_ts"] == "1.5"
    assert seen.received == sent[: len(seen.received or ())]  # what came after the script's end is discarded
    assert seen.eos
    assert seen.sha256 == hashlib.sha256(b"".join(m for m in seen.received or () if isinstance(m, bytes))).hexdigest()
    assert seen.client_close == Close(1000, END_OF_INPUT)


@pytest.mark.parametrize(
    "end",
    [
        End(4001, "unauthorized"),
        End(4002),
        End(4003, "credits"),
        End(4010),
        End(4013, "none"),
        End(4029),
        End(1000, END_OF_INPUT),
        End(1000, NO_DATA),
        End(1000, LIFETIME_REACHED),
        End(1012),
        End(1013),
    ],
)
async def test_any_close_frame_at_the_start_and_in_the_middle(end: End) -> None:
    close = Close(end.code or 0, end.reason)
    assert await play(end) == ([], close)
    messages, closed = await play(Greet("id"), Echo(1), end, send=[b"x"])
    assert len(messages) == 2
    assert closed == close


async def test_a_close_frame_without_a_code() -> None:
    assert (await play(End(None)))[1] == Close(1005)


async def test_a_close_frame_and_tcp_dropped_at_once() -> None:
    assert (await play(End(4010, "now", linger=0)))[1] == Close(4010, "now")


@pytest.mark.parametrize("reset", [False, True])
async def test_tcp_ends_without_a_close_frame(*, reset: bool) -> None:
    async with serving(Scripted((Greet(), Drop(reset)))) as server, client(server.url) as c:
        messages, close = await c.rest()
        assert len(messages) == 1
        assert close is None
        async with raw(server.url, f"{PATH}?{QUERY}") as (reader, _):
            with pytest.raises(ConnectionResetError) if reset else nullcontext():
                await reader.read()


async def test_connected_late_never_or_without_an_id() -> None:
    scripted = Scripted((Wait(latch="late"), Greet("a"), End()), (End(),), (Say('{"type": "connected"}'), End()))
    async with serving(scripted) as server:
        async with client(server.url) as c:
            scripted.release("late")
            assert (await c.rest())[0] == [Connected("a").encode()]
        async with client(server.url) as c:
            assert (await c.rest())[0] == []
        async with client(server.url) as c:
            assert (await c.rest())[0] == ['{"type": "connected"}']


@pytest.mark.parametrize("code", [400, 401, 429, 502])
async def test_an_http_status_in_place_of_the_101(code: int) -> None:
    scripted = Scripted((Status(code, "no"),))
    async with serving(scripted) as server:
        with pytest.raises(InvalidStatus) as refused:
            await client(server.url).__aenter__()
    assert refused.value.response.status_code == code
    assert refused.value.response.body == b"no"
    assert (await scripted.client()).over


async def connect_and_read(url: str) -> tuple[list[str | bytes], Close | None]:
    async with client(url) as c:
        return await c.rest()


async def test_a_handshake_that_stalls_until_released() -> None:
    scripted = Scripted((Wait(latch="door"), Accept(), End(4010)))
    async with serving(scripted) as server:
        connecting = asyncio.create_task(connect_and_read(server.url))
        await scripted.client()
        assert not connecting.done()
        scripted.release("door")
        assert await connecting == ([], Close(4010))


async def test_a_handshake_that_stalls_for_ever_ends_with_the_server() -> None:
    scripted = Scripted((Wait(), Accept()))
    async with serving(scripted) as server:
        connecting = asyncio.create_task(connect_and_read(server.url))
        stalled = await scripted.client()
    (lost,) = await asyncio.gather(connecting, return_exceptions=True)
    assert isinstance(lost, Exception)
    assert stalled.over


@pytest.mark.slow
async def test_a_server_that_stops_reading_stops_the_client() -> None:
    scripted = Scripted((StopReading(), Greet()))
    async with serving(scripted) as server, client(server.url) as c:
        await c.next()
        (line,) = scripted._plays
        assert not line._websocket.transport.is_reading()
        c.connection.transport.abort()


async def test_silence_after_eos() -> None:
    scripted = Scripted((Greet(), Echo()))
    async with serving(scripted) as server, client(server.url) as c:
        await c.next()
        await c.send("EOS")
        seen = await scripted.client()
        await seen.until(lambda seen: seen.eos > 0)
        await (await c.connection.ping())  # whatever was said before the pong has come
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await c.connection.recv()


async def test_messages_of_any_form() -> None:
    odd = (
        '{"type":"final","ts":0,"end_ts":0,"elements":[]}',
        '{"type":"final","ts":0,"end_ts":0,"elements":[{"type":"punct","value":"."}],"speaker_id":"1000"}',
        '{"type":"surprise"}',
        "{malformed",
    )
    steps: Script = (
        partial("one", "tooth"),
        partial("one"),
        final("one", ts=2.0, end_ts=1.0),
        *map(Say, odd),
        Say("bytes", binary=True),
        Say('{"type": "fragmented"}', fragments=5, pause=0.001),
        End(),
    )
    messages, _ = await play(*steps)
    assert messages[3:] == [*odd, b"bytes", '{"type": "fragmented"}']
    assert [message.text for m in messages[:3] if isinstance(message := parse_message(str(m)), Partial | Final)] == [
        "one tooth",
        "one",
        "one",
    ]


async def test_any_other_text_is_answered_with_1007() -> None:
    close = (await play(Greet(), Echo(), send=["nonsense"]))[1]
    assert close
    assert close.code == 1007


async def test_a_clients_close_is_answered_with_1007() -> None:
    scripted = Scripted((AnswerClose(1007, "why"), Greet()))
    async with serving(scripted) as server, client(server.url) as c:
        await c.next()
        await c.connection.close(1000, "bye")
        assert (c.connection.close_code, c.connection.close_reason) == (1007, "why")
        seen = await scripted.client()
        await seen.until(lambda seen: seen.over)
    assert seen.client_close == Close(1000, "bye")


async def test_a_timer_ends_a_conversation() -> None:
    assert (await play(Wait(seconds=0.01), End(1000, LIFETIME_REACHED)))[1] == Close(1000, LIFETIME_REACHED)
    assert (await play(Wait(silence=0.01), End(1000, NO_DATA), send=[b"x"]))[1] == Close(1000, NO_DATA)


async def test_a_script_waits_for_bytes_messages_and_eos() -> None:
    scripted = Scripted((Wait(audio=10, messages=3, eos=True), Total(), End()))
    async with serving(scripted) as server, client(server.url) as c:
        for message in (b"x" * 10, b"", b"", "EOS"):
            await (await c.connection.ping())
            assert not c.connection.recv_messages.frames.queue
            await c.send(message)
        (total,), _ = await c.rest()
    assert "10" in str(total)


async def test_each_client_has_its_script_and_the_last_one_stays() -> None:
    scripted = Scripted((End(4013),), NORMAL)
    codes = []
    async with serving(scripted) as server:
        for _ in range(3):
            async with client(server.url) as c:
                await c.send("EOS")
                close = (await c.rest())[1]
                codes.append(close and close.code)
    assert codes == [4013, 1000, 1000]


async def test_a_hundred_at_once_and_every_byte_is_counted() -> None:
    scripted = Scripted()
    chunks = [bytes([n]) * 3200 for n in range(10)]

    async def session(url: str) -> Close | None:
        async with client(url) as c:
            for chunk in chunks:
                await c.send(chunk)
            await c.send("EOS")
            return (await c.rest())[1]

    async with serving(scripted) as server:
        closes = await asyncio.gather(*(session(server.url) for _ in range(100)))
    assert set(closes) == {Close(1000, END_OF_INPUT)}
    assert {client.sha256 for client in scripted.clients} == {hashlib.sha256(b"".join(chunks)).hexdigest()}
    assert len(scripted.clients) == 100


async def test_a_script_is_read_from_json() -> None:
    text = json.dumps(
        [
            [
                {"do": "greet", "id": "x"},
                {"do": "say", "text": {"type": "surprise"}},
                {"do": "wait", "seconds": 0},
                {"do": "end", "code": None},
            ]
        ]
    )
    async with serving(Scripted.from_json(text)) as server, client(server.url) as c:
        assert await c.rest() == ([Connected("x").encode(), '{"type": "surprise"}'], Close(1005))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "list of scripts"),
        ('[{"do": "greet"}]', "list of scripts"),
        ('[["greet"]]', "not a step"),
        ('[[{"do": "dance"}]]', "one of accept"),
        ('[[{"do": "greet", "name": 1}]]', "greet has no name; it has: id"),
        ('[[{"do": "wait", "seconds": "soon"}]]', "seconds cannot be 'soon'"),
        ('[[{"do": "end", "code": 4000.5}]]', "code cannot be 4000.5"),
        ("[[", "Expecting"),
        ('[[{"do": "greet"}, {"do": "accept"}]]', "can only wait"),
    ],
)
def test_an_error_names_the_step_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Scripted.from_json(text)
