"""A resumable stream whose SDK does not stop when it is aborted: whoever waits for it is told."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from syncbridge import Attempt, Resumable, Stuck
from syncbridge.resumable.attempt import STOP_SECONDS
from tests.helpers.attempts import PATTERN, Final, rules
from tests.helpers.puppet import PATIENCE
from tests.helpers.timer import ManualTimer

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIO = PATTERN[:100]


class Deaf:
    """It takes all input, answers some of it, and then waits for what no abort gives."""

    def __init__(self, answers: bytes) -> None:
        self.clock = ManualTimer()
        self.waits = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.aborts: list[float] = []
        self.told: list[tuple[float, str]] = []
        self._answers = answers
        self._resumable = Resumable(self._connect, rules(answer=30.0, linger=2.0, tail=5, timer=self.clock))
        self._resumable.on_stuck(lambda why: self.told.append((self.clock.now, why)))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self.waits.acquire(timeout=PATIENCE)

    def _connect(self, _position: int) -> Attempt[bytes, Final | str]:
        return Attempt(self._listen, lambda: self.aborts.append(self.clock.now))

    def _listen(self, feed: Iterator[bytes]) -> Iterator[Final | str]:
        list(feed)
        if self._answers:
            yield Final(0, self._answers)
        self.waits.release()
        assert self.go_on.wait(PATIENCE)

    def _read(self) -> None:
        with suppress(Stuck):
            list(self._resumable(iter([AUDIO])))

    def stops(self) -> None:
        self.go_on.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.clock.watched == 0


@pytest.mark.parametrize(
    ("answers", "aborted_at", "why"),
    [(b"", 30.0, "the input ended, and for 30 s nothing new came"), (AUDIO, 2.0, "")],
)
def test_one_that_does_not_stop_is_told_of_once_with_the_reason(answers: bytes, aborted_at: float, why: str) -> None:
    """Without one, if it has answered everything."""
    sdk = Deaf(answers)
    sdk.clock.advance(aborted_at)
    assert sdk.aborts == [aborted_at]
    sdk.clock.advance(STOP_SECONDS - 0.1)
    assert sdk.told == []
    sdk.clock.advance(10 * STOP_SECONDS)
    assert sdk.told == [(aborted_at + STOP_SECONDS, why)]
    assert sdk.aborts == [aborted_at]
    sdk.stops()


def test_one_that_stops_in_time_is_not_told_of() -> None:
    sdk = Deaf(AUDIO)
    sdk.clock.advance(2.0)
    sdk.stops()
    sdk.clock.advance(10 * STOP_SECONDS)
    assert sdk.told == []
