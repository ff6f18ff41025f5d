"""The metrics of all workers, added up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.server.metrics import text_of
from speechbridge.server.workers.sums import Sums

if TYPE_CHECKING:
    from speechbridge.server.metrics import Family


def count(value: float, label: str = "a") -> Family:
    return "speechbridge_x", "What it is.", "counter", [("speechbridge_x_total", {"label": label}, value)]


def gauge(value: float, name: str = "speechbridge_y") -> Family:
    return name, "What it is.", "gauge", [(name, {}, value)]


def total(sums: Sums) -> dict[str, float]:
    lines = [line for line in text_of(sums.total()).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_counters_and_gauges_are_sums_by_label() -> None:
    sums = Sums()
    sums.reported("1", [count(1), gauge(5)])
    sums.reported("2", [count(2), count(10, "b"), gauge(7)])
    assert total(sums) == {
        'speechbridge_x_total{label="a"}': 3,
        'speechbridge_x_total{label="b"}': 10,
        "speechbridge_y": 12,
    }


def test_a_report_takes_the_place_of_the_one_before() -> None:
    sums = Sums()
    sums.reported("1", [count(1)])
    sums.reported("1", [count(4)])
    assert total(sums) == {'speechbridge_x_total{label="a"}': 4}


def test_counters_survive_a_worker_and_its_gauges_do_not() -> None:
    sums = Sums()
    for _ in range(3):
        sums.reported("1", [count(2), gauge(1)])
        sums.died("1")
    sums.died("1")  # it had not reported
    sums.reported("1", [count(1), gauge(1)])
    assert total(sums) == {'speechbridge_x_total{label="a"}': 7, "speechbridge_y": 1}


def test_some_gauges_are_not_sums() -> None:
    sums = Sums()
    for worker, value in (("1", 3.0), ("2", 8.0)):
        sums.reported(
            worker, [gauge(value, "speechbridge_queue_deepest_items"), gauge(value, "process_start_time_seconds")]
        )
    assert total(sums) == {"speechbridge_queue_deepest_items": 8, "process_start_time_seconds": 3}
