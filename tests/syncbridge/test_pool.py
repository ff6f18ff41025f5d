"""The pool: threads are counted until they end."""

from __future__ import annotations

import threading

import pytest

from syncbridge import WorkerPool
from tests.helpers.puppet import PATIENCE


def test_a_slot_is_freed_before_done_is_called_even_if_the_work_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, seen, over = WorkerPool(1), [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))

    def work() -> None:
        seen.append(pool.active)
        raise ZeroDivisionError

    def done() -> None:
        seen.append(pool.active)
        over.set()

    slot = pool.try_acquire()
    assert slot is not None
    slot.run(work, name="worker", done=done)
    assert over.wait(PATIENCE)
    for thread in threading.enumerate():
        if thread.name == "worker":
            thread.join(PATIENCE)
    assert seen == [1, 0, ZeroDivisionError]


def test_a_system_without_threads_costs_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(1)
    slot = pool.try_acquire()
    assert slot is not None

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        slot.run(lambda: None, name="worker", done=lambda: None)
    assert pool.active == 0


def test_abandoning_is_counted_once_and_ends_with_the_thread() -> None:
    pool, release, over = WorkerPool(2), threading.Event(), threading.Event()
    slot = pool.try_acquire()
    assert slot is not None
    slot.run(lambda: (release.wait(PATIENCE), None)[1], name="worker", done=over.set)
    assert "release.wait" in slot.abandon()
    slot.abandon()
    assert (pool.active, pool.abandoned) == (1, 1)
    release.set()
    assert over.wait(PATIENCE)
    assert (pool.active, pool.abandoned) == (0, 0)
    slot.abandon()
    assert pool.abandoned == 0


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        WorkerPool(0)
