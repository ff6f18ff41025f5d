"""One thread looks at what is due, for all; it is there while something is watched."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import TYPE_CHECKING

from syncbridge.timer import ThreadTimer
from tests.helpers.puppet import PATIENCE

if TYPE_CHECKING:
    import pytest


class Looks:
    """Counts looks; each is due again when `then` says so."""

    def __init__(self, then: float = math.inf) -> None:
        self.then = then
        self.count = 0
        self.happened = threading.Semaphore(0)

    def __call__(self) -> float:
        self.count += 1
        self.happened.release()
        return self.then


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_it_looks_in_order_and_a_thread_is_there_only_while_something_is_watched() -> None:
    timer, order, done = ThreadTimer("a timer"), list[str](), threading.Event()

    def look(name: str) -> float:
        order.append(name)
        if name == "last":
            done.set()
        return math.inf

    assert threads("a timer") == []
    *watches, last = [timer.watch(partial(look, name)) for name in ("a", "b", "c", "last")]
    [thread] = threads("a timer")
    assert thread.daemon
    now = timer.time()
    last.by(now + 0.03)
    for watch, delay in zip(watches, (0.02, 0.01, 0.0), strict=True):
        watch.by(now + delay)
    assert done.wait(PATIENCE)
    assert order == ["c", "b", "a", "last"]
    for watch in [*watches, last]:
        watch.stop()
        watch.stop()
    thread.join(PATIENCE)
    assert threads("a timer") == []
    again = timer.watch(lambda: math.inf)
    assert len(threads("a timer")) == 1
    again.stop()


def test_the_earliest_time_counts_and_one_look_is_one_look() -> None:
    timer, looks = ThreadTimer(), Looks()
    watch = timer.watch(looks)
    now = timer.time()
    for delay in (3600.0, 0.0, 1800.0):
        watch.by(now + delay)
    assert looks.happened.acquire(timeout=PATIENCE)
    watch.by(timer.time())
    assert looks.happened.acquire(timeout=PATIENCE)
    assert looks.count == 2
    watch.stop()


def test_a_look_says_when_it_is_due_again() -> None:
    timer, looks = ThreadTimer(), Looks(then=0.0)
    watch = timer.watch(looks)
    watch.by(0.0)
    for _ in range(3):
        assert looks.happened.acquire(timeout=PATIENCE)
    looks.then = math.inf
    watch.stop()


def test_what_was_stopped_is_not_looked_at() -> None:
    timer, stopped, other = ThreadTimer(), Looks(), Looks()
    watch, witness = timer.watch(stopped), timer.watch(other)
    watch.by(timer.time() + 0.01)
    watch.stop()
    watch.by(0.0)
    witness.by(timer.time() + 0.02)
    assert other.happened.acquire(timeout=PATIENCE)
    assert stopped.count == 0
    witness.stop()


def test_a_look_that_raises_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> float:
        raise ZeroDivisionError

    timer, looks = ThreadTimer(), Looks()
    bad, good = timer.watch(fails), timer.watch(looks)
    bad.by(0.0)
    good.by(timer.time() + 0.01)
    assert looks.happened.acquire(timeout=PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    bad.stop()
    good.stop()
