"""What a session may rely on with any engine: the scripted function and Rev.ai's SDK pass the same tests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.engines import Open, UpstreamClosed
from speechbridge.engines.calls import plain
from speechbridge.engines.rev import RevEngine
from speechbridge.protocol.close import END_OF_INPUT, LIFETIME_REACHED, NO_DATA, Close
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.server import serving
from speechbridge.testing.function import scripted
from speechbridge.testing.script import NORMAL, Drop, Echo, End, Greet, Say, Scripted, Wait, final, partial
from syncbridge import Bridge, Broken, Closed, Finished
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.testing.script import Script, Step

PATIENCE = 5.0
REQUEST = StreamRequest(ContentType.raw())


@asynccontextmanager
async def engine_for(kind: str, script: Script) -> AsyncIterator[Open]:
    if kind == "scripted":
        yield plain(scripted(script))
    else:
        async with serving(Scripted(script)) as server:
            yield RevEngine(lambda: server.url, secret())


@asynccontextmanager
async def bridged(kind: str, *script: Step) -> AsyncIterator[Bridge[bytes, str]]:
    async with engine_for(kind, script) as engine:
        upstream = engine(REQUEST)
        async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
            yield bridge


both = pytest.mark.parametrize("kind", ["scripted", "rev.ai's sdk"])


@both
async def test_each_chunk_is_answered_before_the_next_is_sent(kind: str) -> None:
    async with bridged(kind, *NORMAL) as bridge:
        for number in (1, 2, 3):
            await bridge.send(bytes(3200))
            partial = json.loads(await anext(bridge))
            assert [element["value"] for element in partial["elements"]] == ["chunk", str(number)]


@both
async def test_after_the_end_of_the_input_come_the_last_words_and_a_good_end(kind: str) -> None:
    async with bridged(kind, *NORMAL) as bridge:
        for size in (1, 0, 3200, 70_001):
            await bridge.send(bytes(size))
        bridge.end()
        *_, last = [parse_message(response) async for response in bridge]
        assert isinstance(last, Final)
        assert last.text == f"{1 + 3200 + 70_001} bytes"
        assert bridge.outcome == Finished()


@both
async def test_no_input_at_all_ends_well(kind: str) -> None:
    async with bridged(kind, Greet(), Wait(eos=True), End(1000, END_OF_INPUT)) as bridge:
        bridge.end()
        assert [response async for response in bridge] == []
        assert bridge.outcome == Finished()


@both
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (End(4001, "unauthorized"), Close(4001, "unauthorized")),
        (End(4003, "no credits"), Close(4003, "no credits")),
        (End(4013, "none free"), Close(4013, "none free")),
        (End(4029, "too many", linger=0), Close(4029, "too many")),
        (End(1000, NO_DATA), Close(1000, NO_DATA)),
        (End(1000, LIFETIME_REACHED), Close(1000, LIFETIME_REACHED)),
        (End(1000, END_OF_INPUT), Close(1000, END_OF_INPUT)),  # though nobody ended it
        (End(1011), Close(1011)),
        (End(None), Close(1005)),
        (Drop(), Close(1006)),
        (Drop(reset=True), Close(1006)),
    ],
)
async def test_any_other_ending_is_raised_with_its_code_after_the_last_response(
    kind: str, end: End | Drop, expected: Close
) -> None:
    said = final("so", "far")
    async with bridged(kind, Greet(), Wait(messages=1), said, end) as bridge:
        await bridge.send(b"audio")
        assert await anext(bridge) == said.text
        with pytest.raises(UpstreamClosed) as ended:
            await anext(bridge)
        assert ended.value.close.code == expected.code
        assert ended.value.close.reason.startswith(expected.reason)


@both
async def test_responses_arrive_as_they_were_sent(kind: str) -> None:
    odd = [
        partial("shrinks", "a", "lot"),
        partial("shrinks"),
        final(),
        Say('{"type":"final","speaker_id":"1000","elements":[{"type":"unknown"}]}'),
        Say('{"type": "news", "text": "ünïcode \\u00fc"}'),
        Say('{"type":"final","ts":5,"end_ts":1}'),
    ]
    script: list[Step] = [Greet(), *odd, Say("not for us", binary=True), Wait(eos=True), End(1000, END_OF_INPUT)]
    async with bridged(kind, *script) as bridge:
        bridge.end()
        assert [response async for response in bridge] == [say.text for say in odd]


@both
async def test_cancelling_frees_the_worker_wherever_it_waits(kind: str) -> None:
    async with bridged(kind, Greet(), partial("listening"), Wait()) as bridge:
        assert await anext(bridge)
        waiting = asyncio.create_task(bridge.__anext__())
        bridge.cancel()
        with pytest.raises(Closed):
            await waiting
    assert bridge.statistics().state in ("finished", "failed")


@both
async def test_an_upstream_that_ends_early_refuses_what_comes_later(kind: str) -> None:
    async with bridged(kind, Greet(), Echo(1), End(4010, "restarting")) as bridge:
        await bridge.send(b"audio")
        await anext(bridge)
        with pytest.raises(UpstreamClosed):
            await anext(bridge)
        with pytest.raises(Broken) as refused:
            await bridge.send(b"more")
        assert isinstance(refused.value.__cause__, UpstreamClosed)
