"""The circuit breaker: open after failures in a row, probed by one stream, closed by a success. The clock is a fake."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from speechbridge.engines.circuit import BACKOFF, FAILURES, PROBE_SECONDS, Circuit, Entry

PATIENCE = 5.0  # seconds of ours; nothing waits this long unless it is broken
LONG = 10_000.0  # seconds of the circuit's


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stream:
    """A thread that waits to be let in."""

    def __init__(self, circuit: Circuit, patience: float = LONG) -> None:
        self.gives_up = False
        self._circuit = circuit
        self._asked = threading.Event()
        self._entered: SimpleQueue[Entry | None] = SimpleQueue()
        threading.Thread(target=lambda: self._entered.put(circuit.enter(self._looks, patience)), daemon=True).start()
        assert self._asked.wait(PATIENCE)

    def _looks(self) -> bool:
        self._asked.set()
        return self.gives_up

    @property
    def waits(self) -> bool:
        """Have it look again, and tell whether it looks: one that was let in, or sent away, does not."""
        self._circuit.wake()  # takes the lock, so that a look that is under way is over
        self._asked.clear()
        self._circuit.wake()
        return self._asked.wait(PATIENCE)

    def outcome(self) -> Entry | None:
        return self._entered.get(timeout=PATIENCE)


def enter(circuit: Circuit) -> Entry:
    entry = circuit.enter(lambda: False, 0)
    assert entry
    return entry


def opened(clock: Clock) -> Circuit:
    circuit = Circuit(clock)
    for _ in range(FAILURES):
        circuit.failed(enter(circuit))
    assert circuit.is_open
    return circuit


def test_only_failures_in_a_row_open_it() -> None:
    circuit = Circuit(Clock())
    for _ in range(FAILURES - 1):
        circuit.failed(enter(circuit))
    circuit.succeeded()
    for _ in range(FAILURES - 1):
        circuit.failed(enter(circuit))
    circuit.failed(enter(circuit))  # it was closed still
    assert circuit.is_open
    assert circuit.enter(lambda: False, 0) is None


def test_one_that_gets_no_answer_in_time_opens_it() -> None:
    """A host that drops packets takes seconds for each try."""
    clock = Clock()
    circuit = Circuit(clock)
    circuit.failed(enter(circuit))
    hangs = enter(circuit)
    clock.now = 5.0
    circuit.failed(hangs, has_timed_out=True)
    assert circuit.is_open
    assert circuit.enter(lambda: False, 0) is None
    clock.now += BACKOFF.first
    enter(circuit)


def test_one_that_gets_no_answer_while_another_succeeds_is_a_failure_like_any_other() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    hangs = [enter(circuit) for _ in range(FAILURES)]
    clock.now = 1.0
    circuit.succeeded()
    clock.now = 5.0
    for entry in hangs[1:]:
        circuit.failed(entry, has_timed_out=True)
    assert not circuit.is_open
    circuit.failed(hangs[0], has_timed_out=True)
    assert circuit.is_open


def test_a_probe_that_gets_no_answer_doubles_the_pause_like_any_other() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = BACKOFF.first
    circuit.failed(enter(circuit), has_timed_out=True)
    clock.now += 2 * BACKOFF.first * 0.99
    assert circuit.enter(lambda: False, 0) is None
    clock.now += 2 * BACKOFF.first * 0.02
    enter(circuit)


def test_one_stream_probes_and_the_others_continue_when_it_succeeds() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = BACKOFF.first
    enter(circuit)
    others = [Stream(circuit) for _ in range(5)]
    assert all(other.waits for other in others)
    circuit.succeeded()
    assert all(other.outcome() for other in others)
    assert not circuit.is_open


def test_a_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    clock = Clock()
    circuit = opened(clock)
    pause = BACKOFF.first
    for _ in range(8):
        clock.now += pause * 0.99
        assert circuit.enter(lambda: False, 0) is None
        clock.now += pause * 0.02
        circuit.failed(enter(circuit))
        pause = min(2 * pause, BACKOFF.longest)
    assert pause == BACKOFF.longest


def test_a_connection_that_its_own_stream_gave_up_is_no_failure() -> None:
    circuit = Circuit(Clock())
    for _ in range(2 * FAILURES):
        circuit.abandoned(enter(circuit))
    assert not circuit.is_open


def test_a_probe_that_its_own_stream_gave_up_leaves_the_place_to_the_next() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = BACKOFF.first
    probe = enter(circuit)
    other = Stream(circuit)
    assert other.waits
    circuit.abandoned(probe)
    assert other.outcome()
    assert circuit.is_open


def test_a_hundred_that_fail_at_one_moment_are_one_failure() -> None:
    """An upstream restarts: all its streams break, try again, and are refused."""
    clock = Clock()
    circuit = Circuit(clock)
    for entry in [enter(circuit) for _ in range(100)]:
        circuit.failed(entry)
    clock.now = BACKOFF.first
    enter(circuit)


def test_a_failure_from_before_it_opened_does_not_end_a_probe() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    late = enter(circuit)
    for _ in range(FAILURES):
        circuit.failed(enter(circuit))
    clock.now = BACKOFF.first
    enter(circuit)
    circuit.failed(late)
    clock.now += BACKOFF.longest
    assert circuit.enter(lambda: False, 0) is None


def test_a_probe_that_hangs_is_not_waited_for() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = BACKOFF.first
    enter(circuit)
    other = Stream(circuit)
    clock.now += PROBE_SECONDS * 0.99
    assert other.waits
    clock.now += PROBE_SECONDS * 0.02
    circuit.wake()
    assert other.outcome()


def test_the_wait_is_bounded() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now = BACKOFF.first
    enter(circuit)
    other = Stream(circuit, patience=3.0)
    clock.now += 3.0
    circuit.wake()
    assert other.outcome() is None


def test_a_stream_that_is_given_up_stops_waiting() -> None:
    circuit = opened(Clock())
    other = Stream(circuit)
    assert other.waits
    other.gives_up = True
    circuit.wake()
    assert other.outcome() is None
