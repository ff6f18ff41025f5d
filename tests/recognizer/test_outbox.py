"""What waits for a client that does not read: finals all, partials only the last."""

from __future__ import annotations

import asyncio

import pytest

from speechbridge.protocol.messages import Element, Final, Partial
from speechbridge.recognizer.outbox import MOST, Outbox


def partial(text: str) -> Partial:
    return Partial(0, 1, (Element(text),))


def final(text: str) -> Final:
    return Final(0, 1, (Element(text),))


async def rest(outbox: Outbox) -> list[str]:
    outbox.end()
    found = []
    while (hypothesis := await outbox.get()) is not None:
        found.append(hypothesis.text)
    return found


async def test_a_partial_is_replaced_by_what_comes_after_it() -> None:
    outbox = Outbox()
    for hypothesis in (partial("a"), partial("b"), final("B."), partial("c"), partial("d")):
        outbox.put(hypothesis)
    assert await rest(outbox) == ["B.", "d"]


async def test_what_was_taken_is_not_replaced() -> None:
    outbox = Outbox()
    outbox.put(partial("a"))
    assert await outbox.get() == partial("a")
    outbox.put(partial("b"))
    assert await rest(outbox) == ["b"]


async def test_who_waits_is_woken_by_what_comes_and_by_the_end() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.put(final("a"))
    assert await waiting == final("a")
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.end()
    assert await waiting is None


async def test_a_get_that_is_cancelled_loses_nothing() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.put(final("a"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await rest(outbox) == ["a"]


async def test_a_full_one_holds_its_writer_until_one_is_taken() -> None:
    outbox = Outbox()
    for number in range(MOST):
        await asyncio.wait_for(outbox.room(), 1)
        outbox.put(final(str(number)))
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert await outbox.get() == final("0")
    await waiting
