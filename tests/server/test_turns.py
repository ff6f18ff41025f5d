"""Turns, one call in each turn of the event loop, and the bound on connections that nobody admitted."""

from __future__ import annotations

import asyncio

from speechbridge.server.turns import Turns, Unadmitted


class Connection:
    """A connection that notes that it was dropped."""

    def __init__(self) -> None:
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True


async def test_what_waits_is_called_in_order_once_in_each_turn_of_the_loop() -> None:
    turns, turn, called = Turns(), 0, []
    for name in "abc":
        turns.take(lambda name=name: called.append((name, turn)))  # type: ignore[misc] # a lambda's default
    while len(called) < 3:
        turn += 1
        await asyncio.sleep(0)
    assert [name for name, _ in called] == ["a", "b", "c"]
    assert len({at for _, at in called}) == 3


async def test_who_takes_a_turn_within_a_turn_is_called_after_those_that_wait() -> None:
    turns, called = Turns(), []

    def first() -> None:
        called.append("first")
        turns.take(lambda: called.append("again"))

    turns.take(first)
    turns.take(lambda: called.append("second"))
    for _ in range(4):
        await asyncio.sleep(0)
    assert called == ["first", "second", "again"]


async def test_a_call_that_raises_leaves_the_others_their_turns() -> None:
    turns, called, told = Turns(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    turns.take(lambda: 1 / 0)
    turns.take(lambda: called.append("second"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert called == ["second"]
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_one_connection_too_many_drops_the_oldest() -> None:
    unadmitted, connections = Unadmitted(2), [Connection() for _ in range(4)]
    first, second, third, fourth = connections
    for connection in (first, second, first):  # it had another request, and counts as new
        unadmitted.add(connection)
    unadmitted.add(third)
    assert [one.is_dropped for one in connections] == [False, True, False, False]
    unadmitted.remove(third)
    unadmitted.remove(second)  # which is not known any more
    unadmitted.add(fourth)
    assert [one.is_dropped for one in connections] == [False, True, False, False]
