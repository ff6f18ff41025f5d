"""The checks: what a bridge and a resumable stream rely on with any SDK."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from syncbridge.errors import BridgeError, Early, Stuck
from syncbridge.testing.streams import LIMITS, MUCH, SILENCE, one, whole
from syncbridge.testing.subject import Behaviour

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from syncbridge.testing.subject import Opened


async def _is_resumed(opened: Opened) -> bool:
    async with opened(Behaviour.ANSWERS) as subject:
        return subject.settled is not None


async def stop(opened: Opened) -> None:
    """After the end of the input the last responses arrive, and the stream ends without an error."""
    async with one(opened, Behaviour.ANSWERS) as stream:
        item = stream.subject.item
        await stream.send(item, item)
        stream.end()
        assert await stream.received() == [2 * len(item)], "it lost input, or its last responses"


async def responses_come_while_input_is_sent(opened: Opened) -> None:
    """A response is not held back until there are more, or the input ends."""
    async with one(opened, Behaviour.ANSWERS) as stream:
        await stream.send(stream.subject.item)
        assert stream.subject.received(await anext(stream.bridge)) is None, "the first response is the last one"
        stream.end()
        await stream.received()


async def chunks_of_any_size(opened: Opened) -> None:
    """Whatever the sizes of chunks are, all bytes arrive."""
    sizes = (1, 800, 801, 40_001, 300_000, 97)
    async with one(opened, Behaviour.ANSWERS, joins=False) as stream:
        source = stream.subject.item * (300_000 // len(stream.subject.item) + 1)
        await stream.send(*(source[:size] for size in sizes))
        stream.end()
        assert await stream.received() == [sum(sizes)], "bytes were lost, or given twice"


async def a_slow_consumer(opened: Opened) -> None:
    """A consumer that reads late gets everything."""
    async with one(opened, Behaviour.ANSWERS, replace(LIMITS, outbound=1)) as stream:
        item = stream.subject.item
        await stream.send(*[item] * 8)
        stream.end()
        await asyncio.sleep(0.3)  # longer than the SDK needs to give all responses
        assert await stream.received() == [8 * len(item)], "a response was lost"


async def cancel_in_every_state(opened: Opened) -> None:
    """After a cancellation the thread ends within the grace period, wherever it waits."""
    for behaviour, is_ended in (
        (Behaviour.ANSWERS, False),
        (Behaviour.MUTE, False),
        (Behaviour.MUTE_AFTER_A_PARTIAL, False),
        (Behaviour.MUTE_AFTER_THE_END, True),
        (Behaviour.DEAF, False),
    ):
        for count in (0, 1, 40):
            async with one(opened, behaviour) as stream:
                with suppress(TimeoutError):  # it may take no more
                    async with asyncio.timeout(0.2):
                        await stream.send(*[stream.subject.item] * count)
                if is_ended:
                    stream.end()
                stream.bridge.cancel()


async def a_blocked_send(opened: Opened) -> None:
    """If the service reads no more, an SDK that is blocked in a send is woken. An SDK that never blocks passes, too."""
    async with one(opened, Behaviour.DEAF) as stream:
        item = stream.subject.item
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await stream.send(*[item] * (MUCH // len(item)))
        stream.bridge.cancel()


async def an_early_end_is_no_success(opened: Opened) -> None:
    """If the SDK ends before its input does, the reader gets an error."""
    async with one(opened, Behaviour.ENDS_EARLY) as stream:
        try:
            await stream.send(stream.subject.item)
            await stream.received()
        except Exception as error:  # noqa: BLE001 # whatever the SDK raises
            assert isinstance(error, Early) or stream.subject.again(error), "`again` does not allow another try"
            return
        raise AssertionError("an end before the end of the input was taken for a success")


async def an_error_is_raised_and_refuses_what_comes_later(opened: Opened) -> None:
    """After an error of the SDK the reader gets the error, and the next send raises."""
    async with one(opened, Behaviour.BREAKS) as stream:
        await stream.send(stream.subject.item)
        try:
            await stream.received()
        except BridgeError:
            raise
        except Exception as error:  # noqa: BLE001 # whatever the SDK raises
            assert stream.subject.again(error), "`again` does not allow another try after a temporary error"
        else:
            raise AssertionError("a broken connection was taken for a success")
        try:
            await stream.send(stream.subject.item)
        except BridgeError:
            return
        raise AssertionError("input was accepted after the connection broke")


async def a_refusal_is_not_tried_again(opened: Opened) -> None:
    """`again` returns False for an error that is permanent."""
    async with one(opened, Behaviour.REFUSES) as stream:
        with suppress(BridgeError):  # the connection may be refused already
            await stream.send(stream.subject.item)
        try:
            await stream.received()
        except Exception as error:  # noqa: BLE001 # whatever the SDK raises
            assert not isinstance(error, Early), "a refusal ends the responses without an error"
            assert not stream.subject.again(error), "a refusal is tried again"
            return
        raise AssertionError("a refusal was taken for a success")


async def a_mute_service_after_the_end_is_given_up(opened: Opened) -> None:
    """An SDK whose last responses do not arrive is woken, and `Stuck` is raised."""
    async with one(opened, Behaviour.MUTE_AFTER_THE_END, answer=SILENCE) as stream:
        await stream.send(stream.subject.item)
        stream.end()
        try:
            await stream.received()
        except Stuck:
            return
        raise AssertionError("the stream ended without an error, though the last responses did not arrive")


async def positions_count_from_where_a_connection_begins(opened: Opened) -> None:
    """A response settles the input up to a position of the stream, even if its connection began later."""
    if not await _is_resumed(opened):
        return
    begun = 3_200_000
    async with one(opened, Behaviour.ANSWERS, position=begun) as stream:
        settled, item = stream.subject.settled, stream.subject.item
        assert settled
        await stream.send(item)
        stream.end()
        found = [position async for response in stream.bridge if (position := settled(response, begun)) is not None]
        assert found, "nothing settles the input"
        is_right = abs(found[-1] - begun - len(item)) < stream.subject.unit
        assert is_right, f"{begun + len(item)} bytes are settled as {found}"


async def a_broken_connection_is_replaced(opened: Opened) -> None:
    """The unsettled input is given to the next connection: nothing is lost, whatever the first one does."""
    if not await _is_resumed(opened):
        return
    for behaviour in (
        Behaviour.BREAKS,
        Behaviour.ENDS_EARLY,
        Behaviour.MUTE,
        Behaviour.MUTE_AFTER_A_PARTIAL,
        Behaviour.MUTE_AFTER_THE_END,
        Behaviour.DEAF,
    ):
        async with whole(opened, behaviour) as stream:
            item = stream.subject.item
            await stream.send(item, item)
            await asyncio.sleep(0.1)  # time to connect, and to take the first input
            stream.end()
            received = await stream.received()
        assert received == [2 * len(item)], f"{behaviour}: the second connection was given {received} bytes"


async def a_blocked_send_is_replaced(opened: Opened) -> None:
    """A connection that takes no more input is aborted, and the next one is given everything."""
    if not await _is_resumed(opened):
        return
    async with whole(opened, Behaviour.DEAF) as stream:
        item = stream.subject.item
        count = MUCH // len(item)
        reading = asyncio.create_task(stream.received())  # otherwise unread responses would block the SDK
        try:
            await stream.send(*[item] * count)
            stream.end()
            assert await reading == [count * len(item)], "the second connection was not given everything"
        finally:
            reading.cancel()


async def a_rotation_loses_nothing(opened: Opened) -> None:
    """A connection is replaced in time, and each byte is given to one, whatever the sizes of chunks are."""
    if not await _is_resumed(opened):
        return
    async with whole(opened, Behaviour.ANSWERS, lifetime=0.3, quiet=lambda _chunk: True) as stream:
        assert stream.resumable is not None
        source, total = stream.subject.item * (40_001 // len(stream.subject.item) + 1), 0
        reading = asyncio.create_task(stream.received())
        try:
            begun = time.monotonic()
            while time.monotonic() < begun + 1.0:
                for size in (1, 800, 801, 3201, 40_001):
                    await stream.send(source[:size])
                    total += size
                await asyncio.sleep(0.02)
            stream.end()
            received, counts = sum(await reading), stream.resumable.statistics()
        finally:
            reading.cancel()
        assert counts.attempts > 1, "no connection was replaced"
        assert (counts.breaks, counts.given) == (0, total), "a connection broke, or input was not given"
        # An adapter may drop the part of a unit with which a connection ends.
        missing = total + counts.replayed - received
        assert 0 <= missing <= counts.attempts * (stream.subject.unit - 1), "bytes were lost, or given twice"


CHECKS: tuple[Callable[[Any], Coroutine[Any, Any, None]], ...] = (
    stop,
    responses_come_while_input_is_sent,
    chunks_of_any_size,
    a_slow_consumer,
    cancel_in_every_state,
    a_blocked_send,
    an_early_end_is_no_success,
    an_error_is_raised_and_refuses_what_comes_later,
    a_refusal_is_not_tried_again,
    a_mute_service_after_the_end_is_given_up,
    positions_count_from_where_a_connection_begins,
    a_broken_connection_is_replaced,
    a_blocked_send_is_replaced,
    a_rotation_loses_nothing,
)
"""All checks, each an async function of `subject`. Those of resumed streams pass if the subject has no `settled`."""
