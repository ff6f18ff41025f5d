"""Metrics for Prometheus. prometheus_client is imported here only.

Numbers that are counted elsewhere are not counted again: a scrape reads the same snapshots as tests do. Only histograms
and events are kept here. No label identifies a client, and each label has few values.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from platform import python_version
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
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from speechbridge import __version__
from speechbridge.protocol.close import CloseCode
from speechbridge.server.delays import KINDS
from speechbridge.tasks import cancel_and_wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from speechbridge.server.delays import Kind
    from speechbridge.server.resumable_connections import ResumableConnections
    from speechbridge.server.session import Sessions
    from speechbridge.server.speech import SpeechService
    from speechbridge.server.totals import SessionStatistics, Totals
    from syncbridge import Direction

__all__ = ["CONTENT_TYPE_LATEST", "Family", "Metrics", "Sample", "counter", "gauge", "text_of"]

Sample = tuple[str, dict[str, str], float]  # name, labels and value
Family = tuple[str, str, str, list[Sample]]  # a metric: name, help, type and samples

PREFIX = "speechbridge_"
LAG_EVERY = 0.5  # seconds between two measurements of the event loop's lag

# Buckets, in seconds. HAND_OVER goes from the cost of a hand-over on an idle machine to the wait for a stalled SDK.
HAND_OVER = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
CONNECT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CAPTION_DELAY = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

CODES = {int(code) for code in CloseCode} | {1002, 1003}  # the last two: invalid frames, and data that is not accepted

disable_created_metrics()  # type: ignore[no-untyped-call] # it lacks "-> None". It halves the number of series


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._closed = Counter(
            f"{PREFIX}connections_closed",
            "Client WebSockets that have ended, by the first close code that either side sent; 1006 if none was sent.",
            ["code"],
            registry=self._registry,
        )
        self._connect_failures = Counter(
            f"{PREFIX}upstream_connect_failures",
            "Failed attempts to connect to the speech service.",
            ["engine"],
            registry=self._registry,
        )
        self._connect = Histogram(
            f"{PREFIX}upstream_connect_seconds",
            "Time of successful connects to the speech service, including the handshake.",
            ["engine"],
            registry=self._registry,
            buckets=CONNECT,
        )
        self._hand_over = Histogram(
            f"{PREFIX}hand_over_seconds",
            "Time that an item waits between the event loop and the SDK's thread; one item in 16 is measured.",
            ["direction"],
            registry=self._registry,
            buckets=HAND_OVER,
        )
        for direction in ("inbound", "outbound"):
            self._hand_over.labels(direction)  # so that even the first scrape has this series
        self._caption_delay = Histogram(
            f"{PREFIX}caption_delay_seconds",
            "Time from the arrival of audio to the first response that covers it, for raw audio.",
            ["kind"],
            registry=self._registry,
            buckets=CAPTION_DELAY,
        )
        for kind in KINDS:
            self._caption_delay.labels(kind)
        self._lag = Histogram(
            f"{PREFIX}event_loop_lag_seconds",
            f"How late the event loop runs its timers, measured every {LAG_EVERY:g} s.",
            registry=self._registry,
            buckets=LAG,
        )
        ProcessCollector(registry=self._registry)

    def waited(self, direction: Direction, seconds: float) -> None:
        """Record how long an item waited between two threads. Thread-safe."""
        self._hand_over.labels(direction).observe(seconds)

    def delayed(self, kind: Kind, seconds: float) -> None:
        """Record how long after its audio a caption came."""
        self._caption_delay.labels(kind).observe(seconds)

    def connected(self, engine: str, seconds: float | None) -> None:
        """Record how long connecting to an engine's service took; None if it failed. Thread-safe."""
        if seconds is None:
            self._connect_failures.labels(engine).inc()
        else:
            self._connect.labels(engine).observe(seconds)

    def closed(self, code: int) -> None:
        """Record the close code of a client's WebSocket. Codes that clients invent share one label."""
        self._closed.labels(str(code) if code in CODES else "other").inc()

    async def watch_loop(
        self, clock: Callable[[], float] | None = None, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Measure the event loop's lag until cancelled."""
        clock = clock or asyncio.get_running_loop().time
        while True:
            due = clock() + LAG_EVERY
            await sleep(LAG_EVERY)
            self._lag.observe(max(0.0, clock() - due))

    @asynccontextmanager
    async def watching_loop(self) -> AsyncIterator[None]:
        """Measure the event loop's lag within the context."""
        watching = asyncio.create_task(self.watch_loop(), name="loop-watch")
        try:
            yield
        finally:
            await cancel_and_wait(watching)

    def read(self, sessions: Sessions, speech: SpeechService, resumable: ResumableConnections) -> None:
        """Include these in every scrape from now on."""
        for engine in speech.health:
            self._connect_failures.labels(engine)  # so that even the first scrape has this series
            self._connect.labels(engine)
        self._registry.register(_Snapshots(sessions, speech, resumable))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format, of type CONTENT_TYPE_LATEST."""
        return generate_latest(self._registry)

    def families(self) -> list[Family]:
        """Return all metrics, so that they can be added to those of other processes."""
        return [
            (each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples])
            for each in self._registry.collect()
        ]


def text_of(families: list[Family]) -> bytes:
    """Write metrics in Prometheus' text format, of type CONTENT_TYPE_LATEST."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    return generate_latest(registry)


def gauge(name: str, what: str, value: float) -> Family:
    """Make a gauge of one sample."""
    return PREFIX + name, what, "gauge", [(PREFIX + name, {}, value)]


def counter(name: str, what: str, value: float) -> Family:
    """Make a counter of one sample."""
    return PREFIX + name, what, "counter", [(f"{PREFIX}{name}_total", {}, value)]


class _Given(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for name, what, kind, samples in self._families:
            family = Metric(name, what, kind)
            for sample in samples:
                family.add_sample(*sample)
            yield family


class _Snapshots(Collector):
    def __init__(self, sessions: Sessions, speech: SpeechService, resumable: ResumableConnections) -> None:
        self._sessions = sessions
        self._resumable = resumable
        self._speech = speech
        self._build = {"version": __version__, "python": python_version(), "engine": speech.name}

    def collect(self) -> Iterator[Metric]:
        now = self._sessions.statistics()
        build = GaugeMetricFamily(
            f"{PREFIX}build_info", "Always 1; the labels name the versions and the engine.", labels=list(self._build)
        )
        build.add_metric(list(self._build.values()), 1)
        yield build
        yield from self._of_sessions(now)
        yield from self._of_streams(now.totals)
        yield from self._of_threads()
        yield from self._of_places()
        yield from self._of_moves()
        yield from self._of_processors()

    def _of_sessions(self, now: SessionStatistics) -> Iterator[Metric]:
        yield _gauge("sessions_active", "Sessions that are running.", now.alive)
        yield _counts("sessions", "Sessions that have ended, by outcome.", "outcome", now.ended)
        depths = {
            "inbound": [bridge.inbound_depth for bridge in now.bridges],
            "outbound": [bridge.outbound_depth for bridge in now.bridges],
        }
        total = {direction: sum(found) for direction, found in depths.items()}
        deepest = {direction: max(found, default=0) for direction, found in depths.items()}
        where = "between the event loop and the SDK's threads"
        yield _gauges("queue_items", f"Queued items {where}, in all sessions.", "direction", total)
        yield _gauges("queue_deepest_items", f"Queued items {where}, in the fullest queue.", "direction", deepest)

    def _of_streams(self, totals: Totals) -> Iterator[Metric]:
        raw = "Only raw 16-bit audio is counted in seconds."
        yield _count("audio_received_bytes", "Audio received from clients, in any format.", totals.received_bytes)
        yield _count("audio_received_seconds", f"Audio received from clients. {raw}", totals.received)
        yield _count("audio_upstream_seconds", f"Audio given to the SDK; each second counts once. {raw}", totals.given)
        replayed = "Audio replayed after an upstream connection broke, or the stream moved to another process."
        yield _count("audio_replayed_seconds", replayed, totals.replayed)
        lost = "Audio that was lost: never given to the SDK, or evicted before it had to be replayed."
        yield _count("audio_lost_seconds", lost, totals.lost)
        yield _count("upstream_breaks", "Upstream connections that broke while their stream went on.", totals.breaks)
        again = "Upstream connections made to replace an earlier one of the same stream: after a break, or by rotation."
        yield _count("upstream_reconnects", again, totals.reconnects)
        health = self._speech.health
        running = {engine: one.connections for engine, one in health.items()}
        yield _gauges("upstream_connections", "Upstream connections that are open or connecting.", "engine", running)
        open_ = "1 while the circuit breaker is open: the speech service fails, and one stream at a time tries again."
        failing = {engine: one.circuit.is_open for engine, one in health.items()}
        yield _gauges("upstream_circuit_open", open_, "engine", failing)
        kinds = {"partial": totals.partials, "final": totals.finals, "other": totals.others}
        yield _counts("responses", "Responses of the SDK, before post-processing.", "kind", kinds)

    def _of_threads(self) -> Iterator[Metric]:
        pool = self._sessions.pool
        yield _gauge("slots", "Streams that may run at once.", pool.total)
        yield _gauge("slots_free", "Slots that are free.", pool.total - pool.active)
        abandoned = pool.abandoned
        threads = {"running": pool.active - abandoned, "abandoned": abandoned}
        yield _gauges(
            "worker_threads",
            "Threads of SDKs: running, or abandoned because they did not stop.",
            "state",
            threads,
        )

    def _of_places(self) -> Iterator[Metric]:
        places = self._sessions.places
        if places.leases is None:
            return
        here = "in this process"
        yield _gauge("account_streams", f"Streams of the account at the speech service, {here}.", places.held)
        most = places.leases.terms.leases
        yield _gauge("account_streams_limit", "Limit of streams of the account at once, over all processes.", most)
        yield _gauge("queue_clients", f"Clients that wait for a stream of the account, {here}.", places.waiting)
        lost = "Streams that were cut because their lease could not be renewed: Redis was unavailable for too long."
        yield _count("account_streams_lost", lost, places.lost)

    def _of_moves(self) -> Iterator[Metric]:
        resumable = self._resumable
        if not resumable.journal.survives:
            return
        yield _count("streams_taken", "Resumable streams taken over from another process.", resumable.taken)
        yield _count("streams_let_go", "Resumable streams released to another process.", resumable.released)
        unstored = "Finals sent while Redis was unavailable: sent again if this process dies before they are stored."
        yield _count("finals_unstored", unstored, resumable.journal.unstored)

    def _of_processors(self) -> Iterator[Metric]:
        processors = self._sessions.processors
        failures = CounterMetricFamily(
            f"{PREFIX}processor_failures", "Calls of processors that failed, by reason.", labels=["processor", "reason"]
        )
        withheld = CounterMetricFamily(
            f"{PREFIX}processor_withheld",
            "Responses dropped because a required processor failed.",
            labels=["processor"],
        )
        for one in processors.statistics():
            failures.add_metric([one.name, "raised"], one.raised)
            failures.add_metric([one.name, "slow"], one.slow)
            withheld.add_metric([one.name], one.withheld)
        yield failures
        yield withheld
        yield _gauge("processor_threads", "Threads for processors that are not async.", processors.lanes.pool.active)


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
