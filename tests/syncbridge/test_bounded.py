"""The last words of a stream with one connection are bounded, whatever its SDK is blocked in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from syncbridge import Attempt, Bounded, Stuck
from tests.helpers.puppet import PATIENCE
from tests.helpers.timer import ManualTimer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Aborted(Exception):
    """What the SDK makes of its abort."""


class Mute:
    """An SDK that takes all input, gives some responses with a pause before each, and then waits to be aborted."""

    def __init__(self, timer: ManualTimer, *pauses: float, raises: bool = True) -> None:
        self.timer = timer
        self.waits = threading.Semaphore(0)
        self._aborted = threading.Event()
        self._pauses = pauses
        self._raises = raises

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        for pause in self._pauses:
            self.timer.advance(pause)
            yield "more"
        self.waits.release()
        assert self._aborted.wait(PATIENCE)
        if self._raises:
            raise Aborted

    @property
    def attempt(self) -> Attempt[bytes, str]:
        return Attempt(self.start, self._aborted.set)


def run(sdk: Mute) -> tuple[list[str], BaseException | None]:
    """Run a stream of 10 s in a thread; let 10 s pass once the SDK waits. Returns what it said, and its error."""
    heard: list[str] = []
    errors: list[BaseException] = []

    def read() -> None:
        try:
            heard.extend(Bounded(sdk.attempt, 10.0, sdk.timer)(iter([b"a", b"b"])))
        except Exception as error:  # noqa: BLE001 # it is looked at
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert sdk.waits.acquire(timeout=PATIENCE)
    sdk.timer.advance(9.0)
    assert thread.is_alive()
    sdk.timer.advance(1.0)
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    assert sdk.timer.watched == 0
    return heard, errors[0] if errors else None


@pytest.mark.parametrize("raises", [False, True])
def test_an_sdk_that_is_mute_after_its_input_is_aborted(*, raises: bool) -> None:
    heard, error = run(Mute(ManualTimer(), raises=raises))
    assert heard == []
    assert isinstance(error, Stuck)
    assert str(error) == "the input ended, and for 10 s nothing new came"


def test_each_response_gives_it_the_whole_time_again() -> None:
    heard, error = run(Mute(ManualTimer(), 9.0, 9.0, 9.0))
    assert heard == ["more"] * 3
    assert isinstance(error, Stuck)


def test_nothing_is_bounded_before_the_input_has_ended() -> None:
    timer = ManualTimer()

    def slow(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            timer.advance(1000.0)
            yield "heard"

    assert list(Bounded(Attempt(slow), 10.0, timer)(iter([b"a", b"b"]))) == ["heard"] * 2


def test_a_reader_that_is_slow_does_not_use_up_the_time() -> None:
    timer = ManualTimer()

    def says_two(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield "one"
        yield "two"

    heard = []
    for response in Bounded(Attempt(says_two), 10.0, timer)(iter([b"a"])):
        heard.append(response)
        timer.advance(1000.0)
    assert heard == ["one", "two"]


def test_its_own_error_is_left_alone() -> None:
    def fails(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield "so far"
        raise Aborted

    responses = Bounded(Attempt(fails), 10.0, ManualTimer())(iter([b"a"]))
    assert next(iter(responses)) == "so far"
    with pytest.raises(Aborted):
        list(responses)


def test_one_that_nothing_wakes_is_told_of_a_second_after_its_abort() -> None:
    timer, go_on, waits = ManualTimer(), threading.Event(), threading.Event()
    told: list[str] = []

    def deaf(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        waits.set()
        assert go_on.wait(PATIENCE)
        yield from ()

    bounded = Bounded(Attempt(deaf), 10.0, timer)
    bounded.on_stuck(told.append)
    errors: list[Exception] = []

    def read() -> None:
        try:
            list(bounded(iter([b"a"])))
        except Stuck as error:
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert waits.wait(PATIENCE)
    timer.advance(10.0)
    assert told == []
    timer.advance(1.0)
    assert told == ["the input ended, and for 10 s nothing new came"]
    go_on.set()
    thread.join(PATIENCE)
    assert len(errors) == 1
