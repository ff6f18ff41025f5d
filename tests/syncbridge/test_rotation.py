"""An attempt is replaced before its SDK ends it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from syncbridge import Attempt, Resumable
from tests.helpers.attempts import PATTERN, Fault, Final, Sdk, cut, finals, rules
from tests.helpers.timer import ManualTimer

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(lifetime=st.integers(1, 40), sizes=st.lists(st.integers(1, 9), max_size=5), quiet=st.integers(1, 12))
def test_rotation_gives_each_byte_to_one_attempt_and_is_in_time(lifetime: int, sizes: list[int], quiet: int) -> None:
    clock, sdk, begun = ManualTimer(), Sdk([]), []

    def connect(position: int) -> Attempt[bytes, Final | str]:
        begun.append(clock.now)
        return sdk.connect(position)

    resumable = Resumable(connect, rules(lifetime=lifetime, quiet=lambda chunk: chunk[0] % quiet == 0, timer=clock))
    heard = finals(resumable(clock.seconds(cut(300, sizes))))
    assert b"".join(final.text for final in heard) == PATTERN[:300]
    assert b"".join(chunk for _, chunk in sdk.given) == PATTERN[:300]
    assert resumable.statistics().replayed == resumable.statistics().breaks == 0
    lives = [later - earlier for earlier, later in itertools.pairwise([*begun, clock.now])]
    assert all(life <= lifetime + 1 for life in lives)
    assert all(life >= lifetime * 0.9 for life in lives[:-1])


def test_an_attempt_that_breaks_after_its_input_ended_is_replayed() -> None:
    clock, sdk = ManualTimer(), Sdk([Fault(at_end=True)], final_every=1000)
    resumable = Resumable(sdk.connect, rules(lifetime=5, timer=clock))
    heard = finals(resumable(clock.seconds(cut(100, [10]))))
    assert b"".join(final.text for final in heard) == PATTERN[:100]
    assert resumable.statistics().replayed > 0


@given(
    lifetime=st.integers(100, 200),
    sizes=st.lists(st.integers(1, 9), max_size=5),
    final_every=st.integers(1, 9),  # so one comes every 9 s at least, in less than a tenth of the lifetime
    own=st.sampled_from([0, 1]),  # whether the SDK's times begin with the attempt
)
def test_without_quiet_moments_an_attempt_is_replaced_at_a_final_which_cuts_no_word(
    lifetime: int, sizes: list[int], final_every: int, own: int
) -> None:
    """What the old one was given since then is left to the next, and no response of the old one comes any more."""
    clock, begun = ManualTimer(), []
    sdk = Sdk([], final_every, counts_from_its_own_start=bool(own))

    def connect(position: int) -> Attempt[bytes, Final | str]:
        begun.append((clock.now, position))
        return sdk.connect(position)

    def settled(response: Final | str, began: int) -> int | None:
        return (began * own + response.end) if isinstance(response, Final) else None

    resumable = Resumable(connect, rules(settled=settled, lifetime=lifetime, timer=clock))
    heard = finals(resumable(clock.seconds(cut(1000, sizes))))
    assert b"".join(final.text for final in heard) == PATTERN[:1000]
    assert all(len(final.text) == final_every for final in heard[:-1])  # none was cut
    assert all(position % final_every == 0 for _, position in begun)
    assert resumable.statistics().breaks == 0
    lives = [later - earlier for (earlier, _), (later, _) in itertools.pairwise([*begun, (clock.now, 0)])]
    assert all(lifetime * 0.9 <= life <= lifetime for life in lives[:-1])


def test_an_attempt_that_is_replaced_at_a_final_is_aborted_and_closed_before_the_next_begins() -> None:
    clock, events = ManualTimer(), []
    sdk = Sdk([], final_every=10)

    def connect(position: int) -> Attempt[bytes, Final | str]:
        inner = sdk.connect(position)

        def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
            events.append("opened")
            try:
                yield from inner.start(feed)
            finally:
                events.append("closed")

        return Attempt(listen, lambda: events.append("aborted"))

    list(Resumable(connect, rules(lifetime=20, timer=clock))(clock.seconds(cut(250, [10]))))
    assert events[:6] == ["opened", "aborted", "closed"] * 2
    assert events[-1] == "closed"


def test_without_a_final_an_attempt_is_replaced_at_the_end_of_its_lifetime() -> None:
    clock, sdk, begun = ManualTimer(), Sdk([], final_every=10**6), []

    def connect(position: int) -> Attempt[bytes, Final | str]:
        begun.append(clock.now)
        return sdk.connect(position)

    heard = finals(Resumable(connect, rules(lifetime=20, timer=clock))(clock.seconds(cut(100, [1]))))
    assert b"".join(final.text for final in heard) == PATTERN[:100]
    assert begun == [0, 20, 40, 60, 80, 100]


@given(lifetime=st.integers(100, 200), sizes=st.lists(st.integers(1, 9), max_size=5), final_every=st.integers(1, 4))
def test_with_finals_first_an_attempt_is_replaced_at_a_final_though_a_quiet_chunk_came_before(
    lifetime: int, sizes: list[int], final_every: int
) -> None:
    clock, begun = ManualTimer(), []
    sdk = Sdk([], final_every)

    def connect(position: int) -> Attempt[bytes, Final | str]:
        begun.append((clock.now, position))
        return sdk.connect(position)

    changed = rules(lifetime=lifetime, quiet=lambda _chunk: True, finals_first=True, timer=clock)
    heard = finals(Resumable(connect, changed)(clock.seconds(cut(1000, sizes))))
    assert b"".join(final.text for final in heard) == PATTERN[:1000]
    assert all(position % final_every == 0 for _, position in begun)  # none was cut


def test_without_finals_it_is_rotated_at_a_quiet_moment_of_its_last_twentieth() -> None:
    clock, sdk, begun = ManualTimer(), Sdk([], final_every=10**6), []

    def connect(position: int) -> Attempt[bytes, Final | str]:
        begun.append(clock.now)
        return sdk.connect(position)

    changed = rules(lifetime=100, quiet=lambda _chunk: True, finals_first=True, timer=clock)
    list(Resumable(connect, changed)(clock.seconds(cut(300, [1]))))
    assert begun == [0, 95, 190, 285]


@given(sizes=st.lists(st.integers(1, 9), max_size=5))
def test_quiet_is_asked_of_a_whole_window_however_short_the_chunks_are(sizes: list[int]) -> None:
    """A chunk may be as short as the closure of a stop, within a word. And it need not end where a unit does."""
    clock, asked = ManualTimer(), []

    def quiet(window: bytes) -> bool:
        asked.append(window)
        return False

    changed = rules(lifetime=10, quiet=quiet, window=6, unit=2, timer=clock)
    list(Resumable(Sdk([], 10**6).connect, changed)(clock.seconds(cut(240, sizes))))
    assert asked
    assert all(len(window) == 6 and PATTERN.index(window) % 2 == 0 for window in asked)
