"""Races that a load test does not hit: changes just before a wait begins, a cancellation just as it ends."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

import syncbridge.channel
from syncbridge.channel import YIELD_EVERY, AsyncQueueShutDown, Channel, SyncQueueShutDown
from tests.helpers.puppet import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

PATIENCE = 5.0  # seconds; a lost wake-up lasts for ever


def after(looks: int, channel: Channel[int], happen: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something once, after so many checks whether one must wait; the second is the last before the wait."""
    left = looks

    def and_then(look: Callable[[], bool]) -> Callable[[], bool]:
        def called() -> bool:
            nonlocal left
            found = look()
            left -= 1
            if left == 0:
                happen()
            return found

        return called

    for name in ("_is_empty", "_is_full"):
        monkeypatch.setattr(channel, name, and_then(getattr(channel, name)))


@pytest.mark.parametrize("looks", [1, 2])
async def test_a_change_just_before_the_loop_waits_is_noticed(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(PATIENCE):
        empty = Channel[int](1)
        after(looks, empty, lambda: empty.put(1), monkeypatch)
        assert await empty.receive() == 1
        full = Channel[int](1)
        await full.send(1)
        after(looks, full, full.get, monkeypatch)
        await full.send(2)
        for end in (Channel[int].finish, Channel[int].cut):
            ended = Channel[int](1)
            after(looks, ended, lambda end=end, ended=ended: end(ended), monkeypatch)  # type: ignore[misc] # no default is inferred
            with pytest.raises(AsyncQueueShutDown):
                await ended.receive()


@pytest.mark.parametrize("looks", [1, 2])
@pytest.mark.parametrize("what", ["an item", "finish", "cut"])
async def test_a_change_just_before_the_thread_waits_is_noticed(
    what: str, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change happens on the loop, while the thread is between its two checks, or after both."""
    channel, loop = Channel[int](1), asyncio.get_running_loop()
    happen: dict[str, Callable[[], object]] = {
        "an item": lambda: asyncio.run_coroutine_threadsafe(channel.send(1), loop).result(PATIENCE),
        "finish": channel.finish,
        "cut": channel.cut,
    }

    def get() -> int | None:
        with suppress(SyncQueueShutDown):
            return channel.get()
        return None

    after(looks, channel, happen[what], monkeypatch)
    got: asyncio.Future[int | None] = loop.create_future()
    threading.Thread(target=lambda: loop.call_soon_threadsafe(got.set_result, get()), daemon=True).start()
    async with asyncio.timeout(PATIENCE):
        assert await got == (1 if what == "an item" else None)


@pytest.mark.parametrize("end", [Channel[int].finish, Channel[int].cut])
async def test_every_end_wakes_a_thread_that_waits(end: Callable[[Channel[int]], None]) -> None:
    channel, ended = Channel[int](1), threading.Event()

    def get() -> None:
        with suppress(SyncQueueShutDown):
            channel.get()
        ended.set()

    threading.Thread(target=get, daemon=True).start()
    await until(lambda: channel.thread_waiting)
    end(channel)
    assert await asyncio.to_thread(ended.wait, PATIENCE)


@pytest.mark.parametrize("items_before", range(YIELD_EVERY))
async def test_a_cancelled_send_has_put_nothing_and_a_cancelled_receive_has_taken_nothing(items_before: int) -> None:
    """Every few items, send and receive let the loop run first, and may be cancelled there."""
    for is_send in (True, False):
        channel = Channel[int](2)
        for item in range(items_before):
            await channel.send(item)
            await channel.receive()
        await channel.send(0)
        wait: Coroutine[Any, Any, object] = channel.send(1) if is_send else channel.receive()
        waiting = asyncio.create_task(wait)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert channel.qsize() == (1 if waiting.cancelled() else 2 * is_send)


def test_no_private_name_of_janus_is_used() -> None:
    """A new janus may rename them. What begins with an underscore in channel.py belongs to the channel itself."""
    tree = ast.parse(inspect.getsource(syncbridge.channel))
    private = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith("_")]
    assert private
    assert {ast.unparse(n.value) for n in private} == {"self"}
    assert {base for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for base in map(ast.unparse, n.bases)} == {
        "Generic[T]"
    }


async def test_an_item_that_was_refused_is_not_counted() -> None:
    for end in (Channel[int].finish, Channel[int].cut):
        channel = Channel[int](1)
        await channel.send(1)
        end(channel)
        with pytest.raises(AsyncQueueShutDown):
            await channel.send(2)
        with pytest.raises(SyncQueueShutDown):
            channel.put(3)
        assert (channel.entered, channel.peak) == (1, 1)
