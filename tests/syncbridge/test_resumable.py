"""Many attempts that look like one stream. The input is a known pattern, so each byte that an attempt got is known."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge import Attempt, Bridge, Resumable, Resumption, Stuck, pump
from syncbridge.ring import BLOCK
from tests.helpers.puppet import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATTERN = bytes(range(251)) * 1000  # 251 is prime: a wrong offset shows


class Break(Exception):
    """The connection broke."""


class Refusal(Exception):
    """A permanent error."""


@dataclass(frozen=True)
class Final:
    """What was heard between two positions."""

    start: int
    text: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass
class Fault:
    """Break an attempt once it was given so much, or after its input ended; None is a healthy one."""

    after: int | None = None
    at_end: bool = False
    connecting: bool = False
    error: Exception = field(default_factory=Break)


class Sdk:
    """Yields a final for each `final_every` bytes, and one for the rest; each attempt breaks as its fault says."""

    def __init__(self, faults: list[Fault], final_every: int = 10) -> None:
        self._faults = iter(faults)
        self._final_every = final_every
        self.given: list[tuple[int, bytes]] = []

    def connect(self, position: int) -> Attempt[bytes, Final | str]:
        fault = next(self._faults, Fault())
        if fault.connecting:
            raise fault.error
        return Attempt(lambda feed: self._listen(feed, position, fault))

    def _listen(self, feed: Iterator[bytes], position: int, fault: Fault) -> Iterator[Final | str]:
        heard, settled, total = b"", position, 0
        for chunk in feed:
            self.given.append((position + total, chunk))
            total += len(chunk)
            heard += chunk
            if fault.after is not None and total >= fault.after:
                raise fault.error
            yield "partial"
            while len(heard) >= self._final_every:
                yield Final(settled, heard[: self._final_every])
                heard, settled = heard[self._final_every :], settled + self._final_every
        if fault.at_end:
            raise fault.error
        if heard:
            yield Final(settled, heard)


def rules(**changed: object) -> Resumption[Final | str]:
    defaults: dict[str, object] = {
        "settled": lambda response: response.end if isinstance(response, Final) else None,
        "again": lambda error: isinstance(error, Break | Stuck),
        "pause": lambda _failures: 0.0,
        "room": 2**20,
    }
    return Resumption(**(defaults | changed))  # type: ignore[arg-type]


def cut(total: int, sizes: list[int]) -> Iterator[bytes]:
    position = 0
    for size in itertools.cycle([*sizes, 1]):
        if position >= total:
            return
        yield PATTERN[position : min(position + size, total)]
        position += min(size, total - position)


def finals(responses: Iterator[Final | str]) -> list[Final]:
    return [response for response in responses if isinstance(response, Final)]


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


class Clock:
    """A second passes with each chunk."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def chunks(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.now += 1
            yield chunk


@given(lifetime=st.integers(1, 40), sizes=st.lists(st.integers(1, 9), max_size=5), quiet=st.integers(1, 12))
def test_rotation_gives_each_byte_to_one_attempt_and_is_in_time(lifetime: int, sizes: list[int], quiet: int) -> None:
    clock, sdk, begun = Clock(), Sdk([]), []

    def connect(position: int) -> Attempt[bytes, Final | str]:
        begun.append(clock.now)
        return sdk.connect(position)

    resumable = Resumable(connect, rules(lifetime=lifetime, quiet=lambda chunk: chunk[0] % quiet == 0, clock=clock))
    heard = finals(resumable(clock.chunks(cut(300, sizes))))
    assert b"".join(final.text for final in heard) == PATTERN[:300]
    assert b"".join(chunk for _, chunk in sdk.given) == PATTERN[:300]
    assert resumable.statistics().replayed == resumable.statistics().breaks == 0
    lives = [later - earlier for earlier, later in itertools.pairwise([*begun, clock.now])]
    assert all(life <= lifetime + 1 for life in lives)
    assert all(life >= lifetime * 0.9 for life in lives[:-1])


def test_an_attempt_that_breaks_after_its_input_ended_is_replayed() -> None:
    clock, sdk = Clock(), Sdk([Fault(at_end=True)], final_every=1000)
    resumable = Resumable(sdk.connect, rules(lifetime=5, clock=clock))
    heard = finals(resumable(clock.chunks(cut(100, [10]))))
    assert b"".join(final.text for final in heard) == PATTERN[:100]
    assert resumable.statistics().replayed > 0


def test_the_watchdog_aborts_an_attempt_that_does_not_answer_speech_but_not_over_silence() -> None:
    clock = Clock()
    quiet, speech = b"q" * BLOCK, b"S" * BLOCK  # no shorter, or they are kept in one piece, and judged as one
    aborts: list[float] = []
    judged: list[bytes] = []
    mute = iter([True, False])

    def connect(position: int) -> Attempt[bytes, Final | str]:
        if not next(mute):
            return sdk.connect(position)

        def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
            for _ in feed:
                if aborts:
                    return  # like an SDK whose generator just ends when its connection is shut
            yield from ()

        return Attempt(listen, lambda: aborts.append(clock.now))

    def source() -> Iterator[bytes]:
        yield from [quiet] * 33
        yield from [speech] * 10

    def is_speech(piece: bytes) -> bool:
        judged.append(piece)
        return piece == speech

    sdk = Sdk([])
    resumable = Resumable(connect, rules(silence=5.0, speech=is_speech, clock=clock))
    heard = finals(resumable(clock.chunks(source())))
    assert aborts == [39.0]  # speech since 34
    assert b"".join(final.text for final in heard) == quiet * 33 + speech * 10
    assert len(judged) < 2 * 43  # judging is expensive: each piece once, and few more often


def test_speech_that_shares_a_piece_with_older_silence_is_not_taken_for_as_old() -> None:
    clock = Clock()
    aborts: list[float] = []

    def source() -> Iterator[bytes]:
        yield b"q"
        clock.now += 30  # nobody speaks, so nothing is sent
        yield from [b"S"] * 3

    def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
        yield Final(0, b"".join(feed))

    watched = rules(silence=5.0, speech=lambda piece: b"S" in piece, clock=clock)
    resumable = Resumable(lambda _position: Attempt(listen, lambda: aborts.append(clock.now)), watched)
    assert finals(resumable(clock.chunks(source()))) == [Final(0, b"qSSS")]
    assert aborts == []


def test_each_mute_attempt_after_the_second_has_twice_the_time_even_beyond_the_room() -> None:
    clock = Clock()
    aborts: list[float] = []

    def connect(_position: int) -> Attempt[bytes, Final | str]:
        aborted = threading.Event()

        def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
            for _ in feed:
                if aborted.is_set():
                    return
            yield from ()

        def abort() -> None:
            aborts.append(clock.now)
            aborted.set()

        return Attempt(listen, abort)

    resumable = Resumable(connect, rules(silence=5.0, room=10 * BLOCK, clock=clock))
    assert finals(resumable(clock.chunks(iter([bytes(BLOCK)] * 100)))) == []
    assert aborts == [6.0, 11.0, 21.0, 41.0, 81.0]  # 5, 5, 10, 20 and 40 seconds


def test_the_watchdog_expects_no_answer_to_input_that_is_still_to_be_replayed() -> None:
    clock = Clock()
    broken = False
    aborts: list[float] = []

    def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
        nonlocal broken
        for chunk in feed:
            if b"S" in chunk and not broken:
                broken = True
                raise Break
            clock.now += broken  # given again it takes its time
            if aborts:
                return
        yield from ()

    source = iter([b"q" * BLOCK] * 9 + [b"S" * BLOCK] * 9)
    watched = rules(silence=6.0, speech=lambda piece: b"S" in piece, clock=clock)
    assert finals(Resumable(lambda _: Attempt(listen, lambda: aborts.append(clock.now)), watched)(source)) == []
    assert aborts == [15.0]  # speech since 9


def test_partials_satisfy_the_watchdog() -> None:
    clock = Clock()
    sdk = Sdk([], final_every=100 * BLOCK)
    aborts: list[float] = []

    def connect(position: int) -> Attempt[bytes, Final | str]:
        return Attempt(sdk.connect(position).start, lambda: aborts.append(clock.now))

    heard = finals(Resumable(connect, rules(silence=5.0, clock=clock))(clock.chunks(iter([bytes(BLOCK)] * 30))))
    assert aborts == []
    assert [len(final.text) for final in heard] == [30 * BLOCK]


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
