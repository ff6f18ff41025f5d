"""Rev.ai's SDK as an engine: its faults and what is done about them. test_contract.py tests what all engines share."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.rev import RevEngine, Timeouts
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.server import serving
from speechbridge.testing.script import (
    NORMAL,
    AnswerClose,
    Echo,
    End,
    Greet,
    Say,
    Scripted,
    Status,
    StopReading,
    Total,
    Wait,
    final,
    partial,
)
from syncbridge import Bridge, Limits
from tests.helpers.rev import QUICK, REQUEST, TOKEN, bridged, ending

if TYPE_CHECKING:
    from speechbridge.testing.script import Step


async def test_every_parameter_is_sent_upstream_also_those_that_the_sdk_lacks() -> None:
    options: dict[str, Any] = {
        "language": "en",
        "metadata": "a b&c=ü",
        "custom_vocabulary_id": "v1",
        "filter_profanity": True,
        "remove_disfluencies": True,
        "delete_after_seconds": 0,
        "detailed_partials": True,
        "start_ts": 12.5,
        "max_segment_duration_seconds": 10,
        "transcriber": "machine_v2",
        "enable_speaker_switch": False,
        "skip_postprocessing": True,
        "priority": "speed",
        "max_connection_wait_seconds": 30,
    }
    scripted = Scripted()
    async with bridged(scripted, StreamRequest(ContentType.raw(44100, 2), options), token=TOKEN) as bridge:
        bridge.end()
        assert [_ async for _ in bridge]
        client = await scripted.client()
    received = StreamRequest.parse(client.query)
    assert received.options == options
    assert received.content_type == ContentType.raw(44100, 2)
    assert received.access_token == TOKEN


async def test_the_bytes_upstream_are_the_bytes_sent() -> None:
    audio = os.urandom(300_001)
    sizes, sent = cycle([1, 0, 2, 3200, 65536, 125, 126, 127, 65535]), 0
    scripted = Scripted()
    async with bridged(scripted) as bridge:
        while sent < len(audio):
            size = next(sizes)
            await bridge.send(audio[sent : sent + size])
            sent += size
        bridge.end()
        async for _ in bridge:
            pass
        client = await scripted.client()
    assert (client.audio, client.sha256) == (len(audio), hashlib.sha256(audio).hexdigest())
    assert client.eos == 1


async def test_no_message_upstream_is_larger_than_the_limit_however_much_has_queued_up() -> None:
    scripted = Scripted()
    async with bridged(scripted) as bridge:
        await bridge.send(bytes(3 * 2**16 + 1))
        bridge.end()
        async for _ in bridge:
            pass
        client = await scripted.client()
    assert (client.audio, client.messages) == (3 * 2**16 + 1, 4)


async def test_silence_after_the_end_of_the_input_is_given_up() -> None:
    async with bridged(Scripted((Greet(), Wait(eos=True), Wait())), timeouts=QUICK) as bridge:
        bridge.end()
        close = await ending(bridge)
    assert close == Close(1006, "the input ended, and the speech service sent no final for 0.3 s")


async def test_partials_for_ever_after_the_end_of_the_input_are_given_up() -> None:
    endless = (Greet(), Wait(eos=True), *(step for _ in range(100) for step in (partial("more"), Wait(seconds=0.05))))
    async with bridged(Scripted(endless), timeouts=QUICK) as bridge:
        bridge.end()
        close = await ending(bridge)
    assert close == Close(1006, "the input ended, and the speech service sent no final for 0.3 s")


async def test_a_final_after_the_end_of_the_input_gives_time_for_more() -> None:
    slow = (Greet(), Wait(eos=True), *(step for _ in range(4) for step in (final("more"), Wait(seconds=0.15))))
    async with bridged(Scripted((*slow, End(1000, END_OF_INPUT))), timeouts=QUICK) as bridge:
        bridge.end()
        assert len([response async for response in bridge]) == 4


async def test_a_reader_that_is_slow_does_not_use_up_the_time_for_last_words() -> None:
    said = (partial("some"), partial("more"), partial("rest"))
    script = (Greet(), Wait(eos=True), *said, Wait(latch="on"), End(1000, END_OF_INPUT))
    scripted = Scripted(script)
    async with serving(scripted) as server:
        upstream = RevEngine(lambda: server.url, TOKEN, QUICK)(REQUEST)
        async with Bridge(upstream.start, abort=upstream.abort, limits=Limits(outbound=1)) as bridge:
            bridge.end()
            assert "some" in await anext(bridge)
            while bridge.statistics().yielded < 2:  # noqa: ASYNC110 # nothing tells of it
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.5 * QUICK.answer)
            scripted.release("on")
            assert len([response async for response in bridge]) == 2


async def test_silence_before_the_end_of_the_input_is_accepted() -> None:
    """A microphone may be silent for as long as it likes; the SDK's socket times out meanwhile, and goes on."""
    scripted = Scripted((Greet(), Wait(latch="speak"), partial("hello"), Wait(eos=True), End(1000, END_OF_INPUT)))
    async with bridged(scripted, timeouts=Timeouts(answer=0.05)) as bridge:
        waiting = asyncio.create_task(bridge.__anext__())
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        scripted.release("speak")
        assert "hello" in await waiting
        bridge.end()
        assert [_ async for _ in bridge] == []


@pytest.mark.slow
async def test_an_upstream_that_stops_reading_is_given_up() -> None:
    async with bridged(Scripted((Greet(), StopReading(), Wait())), timeouts=QUICK) as bridge:

        async def flood() -> None:
            while True:
                await bridge.send(bytes(2**20))

        flooding = asyncio.create_task(flood())
        assert await ending(bridge) == Close(1006, "the connection to the speech service broke")
        await asyncio.gather(flooding, return_exceptions=True)


@pytest.mark.parametrize(
    "message", ["{", "[]", "1", "null", '"text"', "{}", '{"type":"connected"}', '{"type":{}}', "\u0000"]
)
async def test_a_malformed_message_is_skipped_and_logged(message: str, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK's generator dies of it, the stream does not."""
    script: tuple[Step, ...] = (Say(message), partial("after"), Wait(eos=True), End(1000, END_OF_INPUT))
    async with bridged(Scripted(script)) as bridge:
        bridge.end()
        heard = [response async for response in bridge]
    assert "after" in heard[-1]
    assert len(heard) == 2 or "malformed" in caplog.text


async def test_a_message_in_many_fragments_arrives_whole() -> None:
    text = partial(*["word"] * 100).text
    async with bridged(Scripted((Greet(), Say(text, fragments=50), Wait(eos=True), End(1000, END_OF_INPUT)))) as bridge:
        bridge.end()
        assert [response async for response in bridge] == [text]


async def test_no_close_code_is_lost_when_the_server_drops_the_connection_at_once() -> None:
    """The SDK answers a close frame before it reports it, and the answer fails."""
    scripted = Scripted((Greet(), Wait(messages=1), End(4003, "no credits", linger=0)))
    async with serving(scripted) as server:
        engine = RevEngine(lambda: server.url, TOKEN)
        for _ in range(40):
            upstream = engine(REQUEST)
            async with Bridge(upstream.start, abort=upstream.abort, limits=Limits(inbound=4)) as bridge:
                await bridge.send(bytes(65536))
                assert await ending(bridge) == Close(4003, "no credits")


async def test_a_close_code_that_the_sdk_refuses_counts_as_a_break() -> None:
    async with bridged(Scripted((Greet(), End(1012)))) as bridge:
        assert (await ending(bridge)).code == 1006


async def test_a_second_eos_or_a_late_greeting_or_none_is_fine() -> None:
    for script in ((Wait(seconds=0.05), *NORMAL), (Echo(), Total(), End(1000, END_OF_INPUT)), (AnswerClose(), *NORMAL)):
        async with bridged(Scripted(script)) as bridge:
            await bridge.send(b"audio")
            bridge.end()
            *_, last = [parse_message(response) async for response in bridge]
            assert isinstance(last, Final)
            assert last.text == "5 bytes"


async def test_the_token_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    for script in (NORMAL, (Status(500),), (Greet(), Say("{"), End(4001, "unauthorized"))):
        async with bridged(Scripted(script), token=TOKEN) as bridge:
            bridge.end()
            try:
                async for _ in bridge:
                    pass
            except UpstreamClosed as error:
                said.append(f"{error!r} {error.__cause__!r} {error.__context__!r}")
    assert len(said) == 2
    assert TOKEN not in caplog.text + "".join(said)


def test_a_text_that_is_not_utf8_is_skipped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    near, far = socket.socketpair()
    with near, far:
        stream = RevEngine(lambda: "ws://nowhere", TOKEN)(REQUEST)
        upstream = stream.start.__self__  # type: ignore[attr-defined] # the bound method's
        upstream._socket.sock = near
        far.sendall(b"\x81\x01\xff" + b"\x81\x10" + b'{"type": "more"}' + b"\x88\x02\x0f\xa3")
        assert list(upstream._responses()) == ['{"type": "more"}']
        assert upstream._close == Close(4003)
        assert "malformed" in caplog.text


@pytest.mark.parametrize("message", [f'{{"type": "final", "elements": {"[" * 50_000}', "[" * 50_000 + "]" * 50_000])
async def test_a_deeply_nested_message_is_malformed_and_no_more(message: str, caplog: pytest.LogCaptureFixture) -> None:
    script: tuple[Step, ...] = (Greet(), Say(message), partial("after"), Wait(eos=True), End(1000, END_OF_INPUT))
    async with bridged(Scripted(script)) as bridge:
        bridge.end()
        assert "after" in [response async for response in bridge][-1]
    assert "malformed" in caplog.text
