"""What other programs take of the cores is read from /proc/stat."""

from __future__ import annotations

import sys
import threading

import pytest

from speechbridge.cli import capacity
from speechbridge.cli.capacity.others import busy_between, busy_cores

BEFORE = "cpu  1000 10 500 90000 300 0 20 5 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
AFTER = "cpu  1100 10 550 90040 310 0 20 5 99 0\ncpu0 2 2 2 2 2 2 2 2 2 2\n"


def test_all_but_idling_and_waiting_for_disks_is_busy() -> None:
    """Time of guests (the last two numbers) is part of the first two, and counts once."""
    assert busy_between(BEFORE, AFTER, 1.0, 100) == pytest.approx(1.5)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_core_that_we_keep_busy_is_seen() -> None:
    is_over = threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute, name="busy")
    thread.start()
    try:
        assert busy_cores(0.3) > 0.2
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize(("others", "is_told"), [(0.1, False), (1.3, True)])
def test_a_busy_machine_is_told(
    others: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_told: bool
) -> None:
    monkeypatch.setattr(capacity, "busy_cores", lambda: others)
    monkeypatch.setattr(capacity, "carried_by_service", lambda *_: 10)
    monkeypatch.setenv("SPEECHBRIDGE_REVAI_URL", "ws://127.0.0.1:1")
    capacity._measure(capacity.Effort(1.0, 100.0, 10))
    told = capsys.readouterr().out
    assert ("Other programs kept 1.3 cores busy" in told) == is_told
    assert told.splitlines()[-1] == "  SPEECHBRIDGE_MAX_SESSIONS=8"
