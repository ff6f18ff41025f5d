"""The sender of a bridge: what it holds back, for how long, and that the SDK gets every byte in order."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.server.sending import CHUNK, Sender
from syncbridge import Bridge, Closed, Early, Limits
from tests.helpers.puppet import PATIENCE, Puppet, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LONG = 60.0  # seconds: longer than any test


@asynccontextmanager
async def sending(puppet: Puppet, room: int = 32) -> AsyncIterator[tuple[Sender, Bridge[bytes, str]]]:
    bridge: Bridge[bytes, str] = Bridge(puppet.start, abort=puppet.abort, limits=Limits(inbound=room))  # type: ignore[arg-type] # it passes anything on
    async with asyncio.timeout(PATIENCE), bridge:
        sender = Sender(bridge)
        try:
            yield sender, bridge
        finally:
            sender.close()


async def test_audio_that_may_wait_is_joined_by_the_next_that_may_not() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, bridge):
        await sender.send(b"one", LONG)
        await sender.send(b"two", LONG)
        assert bridge.statistics().sent == 0
        await sender.send(b"three")
        puppet.take()
        await until(lambda: puppet.taken == [b"onetwothree"])


async def test_it_is_joined_by_nothing_at_the_end_of_the_input() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, _):
        puppet.pull()
        await sender.send(b"one", LONG)
        sender.end()
        await until(puppet.feed_ended.is_set)
        sender.end()
    assert puppet.taken == [b"one"]


async def test_it_waits_no_longer_than_it_may() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, _):
        puppet.pull()
        await sender.send(b"one", 0.001)
        await sender.send(b"two", LONG)  # the first one's time counts
        await until(lambda: puppet.taken == [b"onetwo"])
        await sender.send(b"three", 0.001)
        await until(lambda: puppet.taken == [b"onetwo", b"three"])


async def test_no_more_than_a_chunk_is_held_back_and_longer_audio_is_divided() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, bridge):
        await sender.send(bytes(CHUNK), LONG)
        assert bridge.statistics().sent == 0
        await sender.send(bytes(1), LONG)
        assert bridge.statistics().sent == 2
        await sender.send(bytes(CHUNK + 1), LONG)
        assert bridge.statistics().sent == 4


async def test_nothing_is_held_back_while_there_is_no_room() -> None:
    """It waits for room, as any other audio does, and so does its client."""
    puppet = Puppet()
    async with sending(puppet, room=1) as (sender, bridge):
        await sender.send(b"one")
        second = asyncio.create_task(sender.send(b"two", LONG))
        await until(lambda: bridge._inbound.loop_waiting)
        puppet.take()
        await second
        puppet.take()
        await until(lambda: puppet.taken == [b"one", b"two"])


async def test_a_bridge_that_has_ended_takes_no_more() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, bridge):
        await sender.send(b"one", LONG)
        bridge.cancel()
        with pytest.raises(Closed):
            await sender.send(b"two", LONG)


async def test_what_is_held_back_when_the_bridge_ends_is_dropped_without_an_error() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, bridge):
        await sender.send(b"one", LONG)
        bridge.cancel()
        sender.end()
        assert bridge.statistics().sent == 0


async def test_what_the_sdk_did_not_take_is_told_to_the_reader_of_its_responses() -> None:
    puppet = Puppet()
    async with sending(puppet) as (sender, bridge):
        await sender.send(b"one", LONG)
        puppet.finish()
        await until(lambda: not bridge.has_room)
        sender.end()
        with pytest.raises(Early):
            await anext(bridge)


@given(
    steps=st.lists(st.tuples(st.binary(max_size=4), st.sampled_from([0.0, 0.0001, LONG]), st.booleans()), max_size=30),
    room=st.integers(1, 3),
)
async def test_the_sdk_gets_every_byte_in_order(steps: list[tuple[bytes, float, bool]], room: int) -> None:
    puppet = Puppet()
    async with sending(puppet, room) as (sender, _):
        puppet.pull()
        for audio, hold, others_run in steps:
            await sender.send(audio, hold)
            if others_run:
                await asyncio.sleep(0)
        sender.end()
        await until(puppet.feed_ended.is_set)
    assert b"".join(piece for piece in puppet.taken if isinstance(piece, bytes)) == b"".join(a for a, _, _ in steps)
