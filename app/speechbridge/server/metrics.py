"""What Prometheus is told. The only import of prometheus_client.

Nothing is counted here that is known elsewhere: a scrape reads the snapshots that tests read too. Only what is measured
moment by moment, and would be evicted, is kept here. No label tells one client from another, and each has few values.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from speechbridge.protocol.close import CloseCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from prometheus_client import Metric

    from speechbridge.server.session import Sessions
    from speechbridge.server.totals import SessionStatistics, Totals
    from syncbridge import Direction

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

PREFIX = "speechbridge_"
LAG_EVERY = 0.5  # seconds between two looks at the loop

# Seconds. From what a hand-over costs on an idle machine to what a stalled SDK makes of it.
HAND_OVER = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CONNECT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

CODES = {int(code) for code in CloseCode} | {1002, 1003}  # the last two say that something is no WebSocket at all

disable_created_metrics()  # type: ignore[no-untyped-call] # lacks its "-> None". A second series for each counter


class Metrics:
    """One application's figures."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._closed = Counter(
            f"{PREFIX}connections_closed",
            "WebSockets of clients that ended, by close code: the first that either side sent, 1006 for none.",
            ["code"],
            registry=self._registry,
        )
        self._connect_failures = Counter(
            f"{PREFIX}upstream_connect_failures",
            "Connections to the speech service that could not be made.",
            registry=self._registry,
        )
        self._connect = Histogram(
            f"{PREFIX}upstream_connect_seconds",
            "Time to connect to the speech service, handshake included, where it succeeded.",
            registry=self._registry,
            buckets=CONNECT,
        )
        self._hand_over = Histogram(
            f"{PREFIX}hand_over_seconds",
            "Time that an item waits between the event loop and the SDK's thread; of one item in 16.",
            ["direction"],
            registry=self._registry,
            buckets=HAND_OVER,
        )
        for direction in ("inbound", "outbound"):
            self._hand_over.labels(direction)  # there from the first scrape on
        self._lag = Histogram(
            f"{PREFIX}event_loop_lag_seconds",
            f"How much later than it asked to the event loop woke up; looked at every {LAG_EVERY:g} s.",
            registry=self._registry,
            buckets=LAG,
        )
        ProcessCollector(registry=self._registry)

    def waited(self, direction: Direction, seconds: float) -> None:
        """Note how long an item lay between two threads. Thread-safe."""
        self._hand_over.labels(direction).observe(seconds)

    def connected(self, seconds: float | None) -> None:
        """Note how long connecting upstream took; None: it failed. Thread-safe."""
        if seconds is None:
            self._connect_failures.inc()
        else:
            self._connect.observe(seconds)

    def closed(self, code: int) -> None:
        """Note with which code a client's WebSocket ended. Clients may make codes up: those have one label."""
        self._closed.labels(str(code) if code in CODES else "other").inc()

    async def watch_loop(
        self, clock: Callable[[], float] | None = None, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Measure how late the event loop is, until cancelled."""
        clock = clock or asyncio.get_running_loop().time
        while True:
            due = clock() + LAG_EVERY
            await sleep(LAG_EVERY)
            self._lag.observe(max(0.0, clock() - due))

    def read(self, sessions: Sessions, is_circuit_open: Callable[[], bool]) -> None:
        """Have every scrape look at these, from now on."""
        self._registry.register(_Snapshots(sessions, is_circuit_open))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format, as CONTENT_TYPE_LATEST says."""
        return generate_latest(self._registry)


class _Snapshots(Collector):
    def __init__(self, sessions: Sessions, is_circuit_open: Callable[[], bool]) -> None:
        self._sessions = sessions
        self._is_circuit_open = is_circuit_open

    def collect(self) -> Iterator[Metric]:
        now = self._sessions.statistics()
        yield from self._of_sessions(now)
        yield from self._of_streams(now.totals)
        yield from self._of_threads()
        yield from self._of_processors()

    def _of_sessions(self, now: SessionStatistics) -> Iterator[Metric]:
        yield _gauge("sessions_active", "Conversations under way.", now.alive)
        yield _counts("sessions", "Conversations that are over, by how they ended.", "outcome", now.ended)
        depths = {
            "inbound": [bridge.inbound_depth for bridge in now.bridges],
            "outbound": [bridge.outbound_depth for bridge in now.bridges],
        }
        total = {direction: sum(found) for direction, found in depths.items()}
        deepest = {direction: max(found, default=0) for direction, found in depths.items()}
        where = "between the event loop and the SDK's threads"
        yield _gauges("queue_items", f"Items that wait {where}, of all conversations.", "direction", total)
        yield _gauges("queue_deepest_items", f"Items that wait {where}, where most do.", "direction", deepest)

    def _of_streams(self, totals: Totals) -> Iterator[Metric]:
        raw = "Seconds are known of raw 16-bit audio only."
        yield _count("audio_received_bytes", "Audio that clients sent, of any kind.", totals.received_bytes)
        yield _count("audio_received_seconds", f"Audio that clients sent. {raw}", totals.received)
        yield _count("audio_upstream_seconds", f"Of that, given to the SDK, each second once. {raw}", totals.given)
        yield _count("audio_replayed_seconds", "Audio given again after a connection broke.", totals.replayed)
        lost = "Audio that could not be given: the upstream had ended, or it was needed again and not kept any more."
        yield _count("audio_lost_seconds", lost, totals.lost)
        yield _count("upstream_breaks", "Upstream connections that broke under a stream which went on.", totals.breaks)
        again = "Upstream connections made for streams that had had one: after a break, or before a time limit."
        yield _count("upstream_reconnects", again, totals.reconnects)
        open_ = "Whether the speech service fails for everybody, so that one stream tries at a time."
        yield _gauge("upstream_circuit_open", open_, self._is_circuit_open())
        kinds = {"partial": totals.partials, "final": totals.finals, "other": totals.others}
        yield _counts("responses", "Responses of the SDK, before they are processed.", "kind", kinds)

    def _of_threads(self) -> Iterator[Metric]:
        pool = self._sessions.pool
        yield _gauge("slots", "Conversations that may be at once.", pool.total)
        yield _gauge("slots_free", "Of these, free.", pool.total - pool.active)
        abandoned = pool.abandoned
        threads = {"running": pool.active - abandoned, "abandoned": abandoned}
        yield _gauges("worker_threads", "Threads of SDKs: at work, or not to be stopped.", "state", threads)

    def _of_processors(self) -> Iterator[Metric]:
        processors = self._sessions.processors
        failures = CounterMetricFamily(
            f"{PREFIX}processor_failures", "Responses that a processor failed on.", labels=["processor", "reason"]
        )
        withheld = CounterMetricFamily(
            f"{PREFIX}processor_withheld", "Responses dropped, as a required processor failed.", labels=["processor"]
        )
        for one in processors.statistics() if processors else ():
            failures.add_metric([one.name, "raised"], one.raised)
            failures.add_metric([one.name, "slow"], one.slow)
            withheld.add_metric([one.name], one.withheld)
        yield failures
        yield withheld
        threads = processors.lanes.pool.active if processors else 0
        yield _gauge("processor_threads", "Threads for processors that are not async.", threads)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, what, value)


def _count(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, what, value)


def _gauges(name: str, what: str, label: str, values: Mapping[Any, float]) -> Metric:
    return _labelled(GaugeMetricFamily(PREFIX + name, what, labels=[label]), values)


def _counts(name: str, what: str, label: str, values: Mapping[Any, float]) -> Metric:
    return _labelled(CounterMetricFamily(PREFIX + name, what, labels=[label]), values)


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[Any, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family
