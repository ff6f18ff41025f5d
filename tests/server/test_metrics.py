"""The metrics are true: after a run in which everything that happened is known, every figure says so."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

import speechbridge.server.session
from speechbridge.audio import RATE
from speechbridge.backoff import Backoff
from speechbridge.engines import Engine, reconnect
from speechbridge.engines.calls import plain
from speechbridge.engines.circuit import FAILURES, Entry
from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.protocol.messages import EOS, Element, Final, Partial
from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from speechbridge.recognizer.server import serving
from speechbridge.server import create_app
from speechbridge.server.metrics import LAG_EVERY, Metrics
from speechbridge.server.speech import SpeechService
from speechbridge.settings import Settings
from speechbridge.testing.script import NORMAL, End, Greet, Scripted, Status, Wait, final, partial
from syncbridge import Bridge, Limits
from tests.helpers.crowd import Crowd
from tests.helpers.puppet import until
from tests.helpers.service import STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from websockets.asyncio.client import ClientConnection

    from speechbridge.server.run import Server
    from speechbridge.server.session import Sessions
    from speechbridge.server.totals import Outcome

    Figures = Counter[str]

HERE = "tests.server.test_metrics"
PATIENCE = 5.0
TENTH = 3200  # bytes: 100 ms


def figures(text: bytes) -> dict[str, float]:
    """Return every figure that is not 0, except what the kernel, the build or the machine's speed decides.

    Of a histogram that leaves how often it was told something.
    """
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            timed = sample.name.endswith(("_bucket", "_sum")) or "event_loop_lag" in sample.name
            if (
                sample.value
                and not timed
                and "build_info" not in sample.name
                and sample.name.startswith("speechbridge_")
            ):
                found[sample.name.removeprefix("speechbridge_") + (f"{{{labels}}}" if labels else "")] = round(
                    sample.value, 6
                )
    return found


async def scrape(server: Server) -> dict[str, float]:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(server.url.replace("ws://", "http://") + "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return figures(answer.content)


def state(server: Server) -> Any:
    return server.app.state


async def finished(server: Server) -> bytes:
    """Return the metrics once no connection is left: the last codes are counted a moment after clients know them."""
    await until(lambda: not server.connections)
    text: bytes = state(server).metrics.text()
    return text


class Stub:
    """An SDK that answers each chunk, and waits or fails where its stream's metadata says so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        what = request.options.get("metadata", "")
        if what == "waits":
            self.go_on.wait(PATIENCE)
        for number in count(1):
            if next(audio, None) is None:
                break
            yield partial(str(number)).text
            if what == "fails":
                raise ZeroDivisionError
            if what == "stops":
                self.go_on.wait(PATIENCE)
                return
        yield final("heard").text
        yield "no JSON"


def picky(message: str) -> str:
    if "heard" in message:
        raise ValueError
    return message


class Strict:
    required = True

    def __call__(self, message: str) -> str:
        return picky(message) if "final" in message else message


async def say(socket: ClientConnection, chunks: int) -> None:
    """Send so many tenths of a second, and wait for each one's answer."""
    for _ in range(chunks):
        await socket.send(bytes(TENTH))
        while '"partial"' not in str(await socket.recv()):
            pass


@dataclass(frozen=True)
class Stage:
    """A service with room for one session, and an SDK that does as it is told."""

    server: Server
    stub: Stub

    @property
    def sessions(self) -> Sessions:
        sessions: Sessions = state(self.server).sessions
        return sessions

    @asynccontextmanager
    async def stream(self, what: str = "", path: str = STREAM) -> AsyncIterator[ClientConnection]:
        async with client(self.server, f"{path}&metadata={what}") as socket:
            yield socket
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until all is over: a connection, its session and its thread end in any order."""
        sessions, connections = self.sessions, self.server.connections
        await until(lambda: not connections and sessions.alive == 0 and sessions.pool.active == 0)


def told(outcome: Outcome, code: int | str, *, received: int = 0, given: int | None = None, heard: int = 0) -> Figures:
    """Say what one session adds to the figures: of audio in tenths of a second, and in its last words."""
    given = received if given is None else given
    return Counter(
        {
            f"sessions_total{{outcome={outcome}}}": 1,
            f"connections_closed_total{{code={code}}}": 1,
            "audio_received_bytes_total": received * TENTH,
            "audio_received_seconds_total": received,
            "audio_upstream_seconds_total": given,
            "audio_lost_seconds_total": received - given,
            "responses_total{kind=partial}": given,  # one for each tenth
            "responses_total{kind=final}": heard,
            "responses_total{kind=other}": heard,
            f"processor_failures_total{{processor={HERE}:picky,reason=raised}}": heard,
            f"processor_failures_total{{processor={HERE}:Strict,reason=raised}}": heard,
            f"processor_withheld_total{{processor={HERE}:Strict}}": heard,
        }
    )


async def completes(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 40)
        await socket.send("EOS")
        assert (await ending(socket))[1].code == 1000
    timed = {f"hand_over_seconds_count{{direction={way}}}": 2 for way in ("inbound", "outbound")}
    return told("completed", 1000, received=40, heard=1) + Counter(timed)


async def completes_audio_that_is_not_timed(stage: Stage) -> Figures:
    """The SDK gets it as it is."""
    kind = "audio/x-raw;layout=non-interleaved;rate=16000;format=F32LE;channels=2"
    async with stage.stream(path=f"{PATH}?content_type={kind}") as socket:
        await say(socket, 1)
        await socket.send("EOS")
        await ending(socket)
    unknown = Counter({"audio_received_seconds_total": 1, "audio_upstream_seconds_total": 1})
    return told("completed", 1000, received=1, heard=1) - unknown


async def breaks(stage: Stage) -> Figures:
    async with stage.stream("fails") as socket:
        await say(socket, 1)
        assert (await ending(socket))[1].code == 1011
    return told("failed", 1011, received=1)


async def sends_malformed_json(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 1)
        await socket.send("eos")
        assert (await ending(socket))[1].code == 1007
    return told("invalid", 1007, received=1)


async def is_closed_by_the_client_early(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 2)
        await socket.close(1000)
    return told("left", 1000, received=2, heard=1)


async def closes_with_an_unassigned_code(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 2)
        await socket.close(4999)
    return told("left", "other", received=2, heard=1)


async def disconnects_without_a_close_frame(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 3)
        socket.transport.abort()
    return told("left", 1006, received=3, heard=1)


async def sends_too_much(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 1)
        await socket.send(bytes(65537))
        assert (await ending(socket))[1].code == 1009
    return told("left", 1009, received=1, heard=1)


async def asks_for_what_there_is_not(stage: Stage) -> Figures:
    """It has no session."""
    async with stage.stream(path=f"{PATH}?content_type=audio/midi") as socket:
        assert (await ending(socket))[1].code == 4002
    return Counter({"connections_closed_total{code=4002}": 1})


async def asks_for_an_unknown_path(stage: Stage) -> Figures:
    """It never gets a WebSocket."""
    with pytest.raises(InvalidStatus):
        async with client(stage.server, "/nowhere"):
            pass
    stage.sessions.began_draining.set()
    with pytest.raises(InvalidStatus):
        async with client(stage.server):
            pass
    stage.sessions.began_draining.clear()
    await stage.quiet()
    return Counter()


async def ends_early(stage: Stage) -> Figures:
    async with stage.stream("stops") as socket:
        await say(socket, 1)
        await socket.send(bytes(2 * TENTH))
        await until(lambda: stage.sessions.statistics().bridges[0].sent == 2)
        stage.stub.go_on.set()
        assert (await ending(socket))[1].code == 1011
    stage.stub.go_on.clear()
    return told("upstream", 1011, received=3, given=1)


async def hangs_while_others_are_refused(stage: Stage) -> Figures:
    async with stage.stream("waits") as socket:
        for _ in range(4):
            await socket.send(bytes(TENTH))
        await until(lambda: stage.sessions.statistics().bridges[0].sent == 4)
        during = await scrape(stage.server)
        for _ in range(2):
            async with client(stage.server, STREAM) as refused:
                assert (await ending(refused))[1].code == 4029
        await socket.send("eos")
        await until(lambda: stage.sessions.pool.abandoned == 1)
        hung = await scrape(stage.server)
        stage.stub.go_on.set()
        assert (await ending(socket))[1].code == 1007
    stage.stub.go_on.clear()
    waits = {"queue_items{direction=inbound}": 4, "queue_deepest_items{direction=inbound}": 4, "sessions_active": 1}
    now = {name: figure for name, figure in during.items() if "_total" not in name and "_count" not in name}
    threads = {"worker_threads{state=running}": 1, "processor_threads": 1}
    assert now == {**waits, **threads, "slots": 1, "upstream_connections{engine=function}": 1}
    assert {name for name in hung if "threads" in name} == {"worker_threads{state=abandoned}", "processor_threads"}
    return told("invalid", 1007, received=4, given=0) + told("refused", 4029) + told("refused", 4029)


async def is_cancelled(stage: Stage) -> Figures:
    """It has no connection."""
    task = asyncio.create_task(stage.sessions.run(Nobody(), StreamRequest(ContentType.raw())))
    await until(lambda: stage.sessions.statistics().bridges)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stage.quiet()
    return Counter({"sessions_total{outcome=cancelled}": 1})


async def is_refused(stage: Stage) -> Figures:
    async with stage.stream() as socket:
        await say(socket, 1)
        stage.server.stop()
        assert (await ending(socket))[1].code == 4010
    return told("drained", 4010, received=1, heard=1)


class Nobody:
    """A client that says nothing."""

    async def receive(self) -> bytes | str | None:
        await asyncio.Event().wait()
        return None

    async def send(self, text: str) -> None: ...


ACTS = [
    *(
        completes,
        completes_audio_that_is_not_timed,
        completes,
        breaks,
        sends_malformed_json,
        is_closed_by_the_client_early,
        closes_with_an_unassigned_code,
        disconnects_without_a_close_frame,
    ),
    *(sends_too_much, asks_for_what_there_is_not, ends_early, hangs_while_others_are_refused, is_cancelled),
    *(asks_for_an_unknown_path, breaks, completes, is_refused),  # the last one ends the service
]


@pytest.mark.slow
async def test_every_way_for_a_session_to_end_is_counted_with_its_code_and_its_audio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speechbridge.server.session, "LIMITS", Limits(grace=0.05))
    monkeypatch.setattr("speechbridge.server.shared.SCRAPE_SECONDS", 0.0)  # each look is to be a new one
    processors = f"{HERE}:picky,{HERE}:Strict"
    stub = Stub()
    async with service(stub, max_sessions=1, max_message_bytes=65536, processors=processors) as server:
        stage = Stage(server, stub)
        assert await scrape(server) == {"slots": 1, "slots_free": 1}
        expected: Figures = Counter({"slots": 1, "slots_free": 1, "processor_threads": 1})
        for act in ACTS:
            expected += await act(stage)
        after = figures(await finished(server))
    seconds = {name: times / 10 for name, times in expected.items() if name.endswith("seconds_total")}
    assert after == expected | seconds


async def test_what_is_given_again_and_every_connection_upstream_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    second = RATE * 2
    upstream = Scripted(
        (Greet(), Wait(audio=3 * second), final("one", end_ts=1.5), End(4010, "restarting")),
        (Status(502),),  # a connection that fails
        (Greet(), Wait(audio=int(1.5 * second), eos=True), final("two", ts=1.5, end_ts=3), End(1000, END_OF_INPUT)),
        (Greet(), End(4003, "no credits")),
        NORMAL,
    )
    async with serving(upstream) as far, service(None, revai_url=far.url) as server:
        async with client(server, STREAM) as socket:
            for _ in range(3):
                await socket.send(bytes(second))
            await socket.send("EOS")
            assert (await ending(socket))[1].code == 1000
        async with client(server, STREAM) as socket:
            assert (await ending(socket))[1].code == 4003
        async with client(server, STREAM) as socket:
            await socket.send(bytes(second))
            await socket.send("EOS")
            assert (await ending(socket))[1].code == 1000
        after = figures(await finished(server))
    assert after == {
        "connections_closed_total{code=1000}": 2,
        "connections_closed_total{code=4003}": 1,
        "sessions_total{outcome=completed}": 2,
        "sessions_total{outcome=upstream}": 1,
        "audio_received_bytes_total": 4 * second,
        "audio_received_seconds_total": 4,
        "audio_upstream_seconds_total": 4,
        "audio_replayed_seconds_total": 1.5,
        "upstream_breaks_total": 2,
        "upstream_reconnects_total": 2,
        "upstream_connect_seconds_count{engine=revai}": 4,
        "upstream_connect_failures_total{engine=revai}": 1,
        "responses_total{kind=partial}": 1,
        "responses_total{kind=final}": 3,
        "caption_delay_seconds_count{kind=partial}": 1,
        "caption_delay_seconds_count{kind=final}": 3,
        "slots": 200,
        "slots_free": 200,
    }


@pytest.mark.slow
async def test_a_crowd_whose_upstream_breaks_at_random_is_told_as_the_upstream_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.05, 0.05))
    crowd = Crowd(streams=4, seconds=10, kinds=("4010", "fin"), every=3, seed=5)
    async with serving(crowd.upstream, handshake_timeout=None) as far, service(None, revai_url=far.url) as server:
        with anyio.fail_after(60):
            result = await crowd.talk(server.url, pace=30)
        after = figures(await finished(server))
    assert result.trouble == []
    seconds = sum(stream.length for stream in result.streams) / RATE
    connections = sum(len(stream.given) for stream in result.streams)
    twice = sum(stop - start for stream in result.streams for start, stop in stream.given) / RATE - seconds
    assert after["sessions_total{outcome=completed}"] == 4
    assert after["audio_received_seconds_total"] == pytest.approx(seconds)
    assert after["audio_upstream_seconds_total"] == pytest.approx(seconds)
    assert "audio_lost_seconds_total" not in after
    assert after["upstream_connect_seconds_count{engine=revai}"] == connections
    assert after["upstream_reconnects_total"] == connections - 4
    assert after["audio_replayed_seconds_total"] >= twice  # what lay in a socket when it broke is known to us only


async def test_of_sixteen_items_one_is_timed_from_one_thread_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr("syncbridge.channel.time.perf_counter", lambda: float(next(ticks)))
    waited: list[tuple[str, float]] = []
    begin = threading.Event()

    def sdk(feed: Iterator[int]) -> Iterator[int]:
        begin.wait(PATIENCE)
        yield from feed

    async with Bridge(sdk, waited=lambda *told: waited.append(told), limits=Limits(inbound=32)) as bridge:
        for item in range(32):  # the 32nd comes while the 16th is still there, and is not timed
            await bridge.send(item)
        bridge.end()
        begin.set()
        assert [item async for item in bridge] == list(range(32))
    assert [direction for direction, _ in waited].count("inbound") == 1
    assert [direction for direction, _ in waited].count("outbound") >= 1
    assert all(seconds > 0 for _, seconds in waited)


async def test_how_late_captions_come_is_told_partials_and_finals_apart() -> None:
    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield Partial(0.0, 0.5, (Element("one"),)).encode()
        yield Final(0.0, 0.9, (Element("One."),)).encode()
        yield Final(0.9, 1.0).encode()  # without words: it is no caption
        for _ in audio:
            pass

    async with service(sdk) as server, client(server, STREAM) as socket:
        await socket.send(bytes(32000))
        await socket.send(EOS)
        await ending(socket)
        told = state(server).metrics.text().decode()
    for kind in ("partial", "final"):
        assert f'speechbridge_caption_delay_seconds_count{{kind="{kind}"}} 1.0' in told


async def test_a_loop_that_wakes_up_late_is_told() -> None:
    now, naps = 0.0, 0
    metrics = Metrics()

    async def oversleep(seconds: float) -> None:
        nonlocal now, naps
        naps += 1
        now += seconds + (0.3 if naps == 2 else 0.0)
        if naps == 4:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    watching = asyncio.create_task(metrics.watch_loop(lambda: now, oversleep))
    await asyncio.gather(watching, return_exceptions=True)
    text = metrics.text().decode()
    assert 'event_loop_lag_seconds_bucket{le="0.25"} 2.0' in text
    assert 'event_loop_lag_seconds_bucket{le="0.5"} 3.0' in text
    assert "event_loop_lag_seconds_sum 0.3" in text
    assert LAG_EVERY == 0.5


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({"revai_access_token": "S3CRET"}, "revai"),
        ({"revai_url": "ws://127.0.0.1:1"}, "revai"),
        ({"recognizer_url": "ws://127.0.0.1:1"}, "recognizer"),
        ({}, "embedded"),
        ({"start": "builtins:iter"}, "function"),
    ],
)
def test_what_is_running_is_told(settings: dict[str, str], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "SPEECHBRIDGE" in name or "REVAI" in name]:
        monkeypatch.delenv(name)
    if token := settings.pop("revai_access_token", ""):
        monkeypatch.setenv("REVAI_ACCESS_TOKEN", token)
    text = create_app(Settings.read(**settings)).state.metrics.text()
    [build] = [family for family in text_string_to_metric_families(text.decode()) if family.name.endswith("build_info")]
    [sample] = build.samples
    python = ".".join(map(str, sys.version_info[:3]))
    assert (build.name, sample.value) == ("speechbridge_build_info", 1)
    assert sample.labels == {"version": version("live-speech-bridge"), "python": python, "engine": engine}


async def test_an_open_circuit_and_no_sessions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("revai", plain(iter))
    for _ in range(FAILURES):
        engine.health.circuit.failed(Entry())
    failing = SpeechService(engine, Settings.read())
    async with service() as server:
        metrics = Metrics()
        metrics.read(state(server).sessions, failing, state(server).resumable)
        assert figures(metrics.text())["upstream_circuit_open{engine=revai}"] == 1
