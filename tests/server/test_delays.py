"""Caption delays, by a clock of the test's own."""

from __future__ import annotations

import pytest

from speechbridge.server.delays import MOST, STEP, Delays, Kind

RATE = 32000  # bytes a second


class Stream:
    """Audio that arrives in chunks of 100 ms, when it was spoken."""

    def __init__(self, start_ts: float = 0.0) -> None:
        self.now = 100.0
        self.seen: list[tuple[Kind, float]] = []
        self.delays = Delays(RATE, start_ts, clock=lambda: self.now, observe=lambda *seen: self.seen.append(seen))
        self._received = 0

    def speak(self, seconds: float, chunk: float = 0.1) -> None:
        for _ in range(round(seconds / chunk)):
            self.now += chunk
            self._received += round(chunk * RATE)
            self.delays.received(self._received)

    def partials(self) -> list[float]:
        return [delay for kind, delay in self.seen if kind == "partial"]


def test_a_delay_counts_from_when_the_sound_had_arrived() -> None:
    stream = Stream()
    stream.speak(2.0)
    stream.now += 0.3
    stream.delays.answered("partial", 1.55)  # the chunk that ends at 1.6 s has it
    assert stream.partials() == pytest.approx([0.7])


def test_partials_and_finals_are_apart() -> None:
    stream = Stream()
    stream.speak(2.0)
    stream.delays.answered("partial", 1.9)
    stream.now += 0.5
    stream.delays.answered("final", 1.9)
    assert stream.delays.means["partial"].value == pytest.approx(0.1)
    assert stream.delays.means["final"].value == pytest.approx(0.6)


def test_the_mean_is_over_all() -> None:
    stream = Stream()
    assert stream.delays.means["final"].value is None
    for _ in range(2):
        stream.speak(1.0)
        stream.now += 0.2
        stream.delays.answered("final", stream._received / RATE)
    assert stream.delays.means["final"].value == pytest.approx(0.2)
    assert stream.delays.means["final"].count == 2


def test_a_partial_that_covers_no_more_sound_has_no_delay() -> None:
    stream = Stream()
    stream.speak(1.0)
    stream.delays.answered("partial", 1.0)
    stream.now += 5.0
    stream.delays.answered("partial", 1.0)
    stream.delays.answered("partial", 0.5)
    assert len(stream.seen) == 1


def test_times_may_begin_at_start_ts() -> None:
    stream = Stream(start_ts=1000.0)
    stream.speak(1.0)
    stream.delays.answered("final", 1001.0)
    assert stream.delays.means["final"].value == pytest.approx(0.0)


@pytest.mark.parametrize("end_ts", [-5.0, 0.0, 99.0, float("inf")])
def test_a_time_of_no_sound_has_no_delay(end_ts: float) -> None:
    stream = Stream()
    stream.speak(1.0)
    stream.delays.answered("partial", end_ts)
    assert stream.seen == []


def test_what_was_answered_by_a_final_is_forgotten_and_the_rest_is_bounded() -> None:
    stream = Stream()
    stream.speak(10.0, chunk=0.02)
    assert len(stream.delays._arrivals) < 10.0 / 0.02 / 1.5
    stream.delays.answered("final", 9.9)
    assert len(stream.delays._arrivals) <= 0.1 / STEP + 2
    stream.speak(600.0)
    assert len(stream.delays._arrivals) == MOST
    stream.delays.answered("partial", 600.0)
    assert stream.partials()[-1] == pytest.approx(10.0, abs=0.11)


def test_short_chunks_are_timed_to_a_few_of_them() -> None:
    stream = Stream()
    stream.speak(2.0, chunk=0.02)
    stream.delays.answered("partial", 1.0)
    assert stream.partials() == pytest.approx([1.0], abs=2 * STEP)
