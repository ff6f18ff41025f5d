"""One transcript and its readers: each final once and in order for each of them, however slow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from speechbridge.cluster.transcript import SLICE, Position, Transcript
from speechbridge.protocol.messages import Final, Partial
from tests.helpers.puppet import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Sequence


def final(number: int) -> str:
    return Final(float(number), number + 1.0).encode()


def partial(number: int) -> str:
    return Partial(float(number), number + 1.0).encode()


def texts(transcript: Transcript, position: Position) -> list[str]:
    return [entry.text for entry in transcript.take(position)]


def test_finals_are_numbered_and_of_partials_only_the_latest_is_kept() -> None:
    transcript, position = Transcript(), Position()
    for text in (final(0), partial(1), partial(2)):
        transcript.add(text)
    assert [entry.number for entry in transcript.finals] == [1]
    assert texts(transcript, position) == [final(0)]
    assert texts(transcript, position) == [partial(2)]
    assert texts(transcript, position) == []


def test_a_partial_that_a_final_has_replaced_is_not_told_any_more() -> None:
    transcript = Transcript()
    transcript.add(partial(0))
    transcript.add(final(0))
    assert texts(transcript, Position()) == [final(0)]
    assert texts(transcript, Position(finals=1)) == []


def test_what_is_no_message_of_ours_is_kept_as_a_final_is() -> None:
    transcript = Transcript()
    transcript.add("two\nlines")
    assert transcript.finals[0].event == b"id: 1\ndata: two\ndata: lines\n\n"


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 4)))))
def test_each_reader_has_each_final_once_and_in_order(said: Sequence[tuple[bool, list[int]]]) -> None:
    """Between two messages, some of the readers take what there is; the last one only afterwards."""
    transcript = Transcript()
    positions, heard = [Position() for _ in range(6)], [list[str]() for _ in range(6)]
    for number, (is_final, readers) in enumerate(said):
        transcript.add(final(number) if is_final else partial(number))
        for reader in readers:
            heard[reader] += texts(transcript, positions[reader])
    for reader, position in enumerate(positions):
        while transcript.has_more(position):
            heard[reader] += texts(transcript, position)
        finals = [text for text in heard[reader] if '"final"' in text]
        assert finals == [final(number) for number, (is_final, _) in enumerate(said) if is_final]
        partials = [text for text in heard[reader] if '"partial"' in text]
        assert partials == sorted(set(partials), key=partials.index)


async def test_readers_wait_and_leave_when_it_ends() -> None:
    transcript, position = Transcript(), Position()
    waiting = asyncio.create_task(transcript.more(position))
    await until(lambda: transcript._waiting)
    transcript.add(final(0))
    assert await waiting
    assert texts(transcript, position) == [final(0)]
    waiting = asyncio.create_task(transcript.more(position))
    await until(lambda: transcript._waiting)
    transcript.end()
    assert not await waiting
    assert await transcript.more(Position())  # one that comes afterwards has it all


async def test_a_message_wakes_readers_a_few_at_a_time() -> None:
    """What others have to do comes in between."""
    transcript, woken, turns = Transcript(), [0], []

    async def read() -> None:
        await transcript.more(Position())
        woken[0] += 1

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for _ in range(4 * SLICE):
            group.create_task(read())
        await until(lambda: len(transcript._waiting) == 4 * SLICE)
        transcript.add(final(0))
        while woken[0] < 4 * SLICE:
            before = woken[0]
            await asyncio.sleep(0)
            turns.append(woken[0] - before)
    assert max(turns) == SLICE


async def test_what_comes_while_readers_are_woken_reaches_those_that_wait_again() -> None:
    transcript, heard = Transcript(), [list[str]() for _ in range(3 * SLICE)]

    async def read(reader: list[str]) -> None:
        position = Position()
        while await transcript.more(position):
            reader += texts(transcript, position)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for reader in heard:
            group.create_task(read(reader))
        await until(lambda: len(transcript._waiting) == len(heard))
        for number in range(10):
            transcript.add(final(number))
            await asyncio.sleep(0)
        transcript.end()
    assert all(reader == [final(number) for number in range(10)] for reader in heard)


async def test_a_reader_that_was_cancelled_does_no_harm() -> None:
    transcript = Transcript()
    leaving, staying = (asyncio.create_task(transcript.more(Position())) for _ in range(2))
    await until(lambda: len(transcript._waiting) == 2)
    leaving.cancel()
    transcript.add(final(0))
    assert await staying
