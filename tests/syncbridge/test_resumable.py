"""Many attempts that look like one stream. The input is a known pattern, so each byte that an attempt got is known."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge import Attempt, Bridge, Early, Resumable, pump
from tests.helpers.attempts import PATTERN, Break, Fault, Final, Refusal, Sdk, cut, finals, rules
from tests.helpers.puppet import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

faults = st.builds(Fault, after=st.none() | st.integers(0, 60), at_end=st.booleans(), connecting=st.booleans())


@given(
    total=st.integers(0, 300),
    sizes=st.lists(st.integers(0, 30), max_size=5),
    faults=st.lists(faults, max_size=12),
    final_every=st.integers(1, 50),
)
def test_wherever_it_breaks_nothing_is_lost_or_doubled(
    total: int, sizes: list[int], faults: list[Fault], final_every: int
) -> None:
    sdk = Sdk(faults, final_every)
    resumable = Resumable(sdk.connect, rules())
    heard = finals(resumable(cut(total, sizes)))

    assert b"".join(final.text for final in heard) == PATTERN[:total]
    assert [final.start for final in heard] == list(itertools.accumulate([0, *(len(f.text) for f in heard)]))[:-1]
    assert all(chunk == PATTERN[position : position + len(chunk)] for position, chunk in sdk.given)
    statistics = resumable.statistics()
    assert statistics.given == total
    assert statistics.evicted == 0
    assert sum(len(chunk) for _, chunk in sdk.given) == total + statistics.replayed


@given(room=st.integers(0, 60), sizes=st.lists(st.integers(1, 30), max_size=5), after=st.integers(1, 200))
def test_input_beyond_the_room_is_given_once_and_counted_as_evicted_after_a_break(
    room: int, sizes: list[int], after: int
) -> None:
    sdk = Sdk([Fault(after=after)], final_every=10**6)
    resumable = Resumable(sdk.connect, rules(room=room))
    [final] = finals(resumable(cut(300, sizes)))
    statistics = resumable.statistics()
    assert statistics.given == 300  # all of it, to one attempt at least
    assert final.start == statistics.evicted
    assert final.text == PATTERN[statistics.evicted : 300]
    assert statistics.replayed <= room + 30


def test_a_permanent_error_is_raised_at_once() -> None:
    resumable = Resumable(Sdk([Fault(after=5, error=Refusal())]).connect, rules())
    with pytest.raises(Refusal):
        list(resumable(cut(100, [10])))
    assert resumable.statistics().attempts == 1


@given(sizes=st.lists(st.integers(0, 30), max_size=5), final_every=st.integers(1, 50), each=st.integers(1, 4))
def test_an_attempt_that_asks_to_be_replaced_ends_at_a_final(sizes: list[int], final_every: int, each: int) -> None:
    """Each final of its is followed by another attempt, which begins where that ends; it is asked for nothing else."""
    sdk, asked = Sdk([], final_every), itertools.count(1)

    def connect(position: int) -> Attempt[bytes, Final | str]:
        return replace(sdk.connect(position), is_to_be_replaced=lambda: next(asked) % each == 0)

    resumable = Resumable(connect, rules())
    heard = finals(resumable(cut(200, sizes)))
    assert b"".join(final.text for final in heard) == PATTERN[:200]
    assert [final.start for final in heard] == list(itertools.accumulate([0, *(len(f.text) for f in heard)]))[:-1]
    assert resumable.statistics().breaks == 0
    assert resumable.statistics().attempts <= 1 + len(heard) // each
    assert each > 1 or resumable.statistics().attempts > 1


def broken_at_the_end(speech_begins: int) -> Resumable[Final | str]:
    """Twenty bytes in, a final for the first ten, and each attempt breaks after the end of its input; two tries."""
    sdk = Sdk([Fault(at_end=True)] * 3, final_every=10)
    sdk.final_until = 10
    two_tries = rules(pause=lambda failures: 0.0 if failures < 2 else None, speech=lambda at: max(at) >= speech_begins)
    return Resumable(sdk.connect, two_tries)


def test_no_end_is_no_failure_once_all_tries_are_used_and_only_silence_is_left() -> None:
    resumable = broken_at_the_end(speech_begins=20)
    assert finals(resumable(cut(20, [5]))) == [Final(0, PATTERN[:10])]
    assert resumable.statistics().attempts == 3


def test_speech_that_has_no_answer_once_all_tries_are_used_is_a_failure() -> None:
    with pytest.raises(Break):
        list(broken_at_the_end(speech_begins=19)(cut(20, [1])))


@given(
    total=st.integers(0, 200),
    sizes=st.lists(st.integers(0, 30), max_size=5),
    faults=st.lists(faults, max_size=8),
    final_every=st.integers(1, 50),
)
def test_settled_is_told_where_its_attempt_began_where_an_sdks_own_times_begin(
    total: int, sizes: list[int], faults: list[Fault], final_every: int
) -> None:
    """Most SDKs count from the beginning of their connection, and know of no offset."""
    shifted: list[int] = []

    def settled(response: Final | str, begun: int) -> int | None:
        if not isinstance(response, Final):
            return None
        shifted.append(begun + response.start)
        return begun + response.end

    sdk = Sdk(faults, final_every, counts_from_its_own_start=True)
    heard = finals(Resumable(sdk.connect, rules(settled=settled))(cut(total, sizes)))
    assert b"".join(final.text for final in heard) == PATTERN[:total]
    assert shifted == list(itertools.accumulate([0, *(len(final.text) for final in heard)]))[:-1]


@pytest.mark.parametrize("sizes", [[10], [7, 3]])
def test_responses_that_end_before_the_input_are_an_early_end_and_tried_again(sizes: list[int]) -> None:
    """An SDK may end without a word, as when its server closes, and nothing would tell it from success."""
    sdk = Sdk([Fault(after=25, error=None), Fault(after=1, error=None), Fault(after=40, error=None)])
    resumable = Resumable(sdk.connect, rules())
    heard = finals(resumable(cut(100, sizes)))
    assert b"".join(final.text for final in heard) == PATTERN[:100]
    assert resumable.statistics().breaks == 3
    assert resumable.statistics().attempts == 4


def test_an_early_end_that_is_not_tried_again_is_raised() -> None:
    sdk = Sdk([Fault(after=25, error=None)])
    with pytest.raises(Early, match="before its input"):
        list(Resumable(sdk.connect, rules(again=lambda _error: False))(cut(100, [10])))


def test_pauses_grow_while_nothing_is_settled_and_are_reset_once_something_is() -> None:
    asked: list[int] = []
    faults = [Fault(connecting=True), Fault(after=1), Fault(after=25), Fault(connecting=True), Fault(at_end=True)]
    resumable = Resumable(Sdk(faults).connect, rules(pause=asked.append))
    with pytest.raises(Break):
        list(resumable(cut(100, [10])))
    assert asked == [1]  # it answered None: give up

    asked.clear()

    def pause(failures: int) -> float:
        asked.append(failures)
        return 0.0

    resumable = Resumable(Sdk(faults).connect, rules(pause=pause))
    assert b"".join(final.text for final in finals(resumable(cut(100, [10])))) == PATTERN[:100]
    assert asked == [1, 2, 0, 1, 0]


def test_abort_ends_a_pause_and_raises_what_led_to_it() -> None:
    pausing = threading.Event()

    def pause(_failures: int) -> float:
        pausing.set()
        return 10 * PATIENCE

    resumable = Resumable(Sdk([Fault(connecting=True)]).connect, rules(pause=pause))
    raised: list[BaseException] = []

    def run() -> None:
        with pytest.raises(Break) as error:
            list(resumable(cut(10, [10])))
        raised.append(error.value)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    assert pausing.wait(PATIENCE)
    resumable.abort()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert len(raised) == 1


def test_abort_before_there_is_a_connection_aborts_it_once_there_is() -> None:
    aborted: list[str] = []
    resumable: Resumable[Final | str]

    def connect(_position: int) -> Attempt[bytes, Final | str]:
        resumable.abort()
        return Attempt(lambda _feed: [], lambda: aborted.append("this one"))

    resumable = Resumable(connect, rules())
    assert list(resumable(iter([]))) == []
    assert aborted == ["this one"]


async def test_an_old_attempts_thread_that_still_waits_in_the_feed_takes_no_input_away() -> None:
    """The SDK pulls in a thread of its own, which still waits in the feed when the next attempt begins."""
    broken: list[SimpleQueue[str]] = []
    taken: list[list[bytes]] = []

    def connect(_position: int) -> Attempt[bytes, Final | str]:
        orders: SimpleQueue[str] = SimpleQueue()
        mine: list[bytes] = []
        broken.append(orders)
        taken.append(mine)

        def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
            def send() -> None:
                mine.extend(feed)
                orders.put("eos")

            threading.Thread(target=send, daemon=True).start()
            if orders.get(timeout=PATIENCE) == "break":
                raise Break
            yield Final(0, b"".join(mine))

        return Attempt(listen)

    async def source() -> AsyncIterator[bytes]:
        for number in range(5):
            attempts = len(broken)
            await until(lambda number=number: _pulling(resumable, number))  # type: ignore[misc]
            broken[-1].put("break")
            await until(lambda attempts=attempts: len(broken) > attempts)  # type: ignore[misc]
            await until(lambda: _waiting(resumable))
            yield bytes([number])

    resumable = Resumable(connect, rules())
    async with Bridge(resumable, abort=resumable.abort) as bridge:
        assert await pump(source(), bridge)
        [final] = [response async for response in bridge]
    assert isinstance(final, Final)
    assert final.text == bytes(range(5))
    assert len(taken) == 6


def _waiting(resumable: Resumable[Final | str]) -> bool:
    """Tell whether an attempt waits for what an old one pulls."""
    attempt = resumable._attempt
    return attempt is not None and bool(attempt._tap._changed._waiters)  # type: ignore[attr-defined] # of a Condition


def _pulling(resumable: Resumable[Final | str], given: int) -> bool:
    """Tell whether the current attempt has so much, and waits for more."""
    attempt = resumable._attempt
    return attempt is not None and attempt.position == given and attempt._tap._pulling


def test_a_minute_of_ten_channels_in_short_chunks_is_replayed_in_little_time() -> None:
    """48 kHz, 16 bit, 20 ms: 3,000 chunks. Searching for each from one end of the ring took 0.31 s."""
    chunk = bytes(48_000 * 10 * 2 // 50)
    took: list[float] = []

    def listen(feed: Iterator[bytes]) -> Iterator[str]:
        begun = time.thread_time()
        assert sum(1 for _ in itertools.islice(feed, 3000)) == 3000
        took.append(time.thread_time() - begun)
        if len(took) == 1:
            raise Break
        yield from (str(len(rest)) for rest in feed)

    resumable = Resumable(lambda _position: Attempt(listen), rules(room=2**30, silence=20.0, lifetime=3600.0))
    assert list(resumable(iter([chunk] * 3000))) == []
    assert resumable.statistics().replayed == 3000 * len(chunk)
    assert took[1] < 0.1
