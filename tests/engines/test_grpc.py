"""Google's and Riva's real SDKs before servers of their own protos: how a stream begins, is aborted, and ends."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import grpc_channels, reconnect
from speechbridge.protocol.messages import EOS, Final, Partial, parse_message
from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from speechbridge.server.speech import choose
from speechbridge.settings import Settings, WrongSetting
from syncbridge import Bridge
from tests.helpers import spoken
from tests.helpers.grpc_services import DIALECTS, Call, GoogleV1, SpeechResult, grpc, serving, settings_for
from tests.helpers.puppet import until
from tests.helpers.secrets import secret
from tests.helpers.service import STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from speechbridge.engines import Engine
    from speechbridge.protocol.request import Option
    from speechbridge.server.run import Server

pytestmark = pytest.mark.slow  # real SDKs before servers in this process: half a second each

PATIENCE = 20.0
LOUD = (spoken.audio(0, spoken.WORD) * 4)[:32_000]
SERVICES = pytest.mark.parametrize("name", DIALECTS)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.02, 0.02))


@asynccontextmanager
async def before(name: str, handle: Callable[[Call], Iterator[SpeechResult]], **settings: Any) -> AsyncIterator[Server]:
    with serving(DIALECTS[name](), handle) as address:
        async with service(None, **settings_for(name, address, **settings)) as server:
            yield server


def hears_all(call: Call) -> Iterator[SpeechResult]:
    heard = sum(len(chunk) for chunk in call.audio())
    yield SpeechResult((("Heard", 0.1, 0.4), (f"{heard},", 0.5, 0.9)), 1.0, is_final=True)


def is_idle(server: Server) -> bool:
    sessions = server.sessions
    return sessions.alive == 0 and sessions.pool.active == 0


# ---- a good stream ---------------------------------------------------------------------------------------------------


@SERVICES
async def test_finals_have_words_with_times_and_confidence_and_partials_come_before(name: str) -> None:
    go_on = threading.Event()

    def talks(call: Call) -> Iterator[SpeechResult]:
        audio = call.audio()
        next(audio)
        yield SpeechResult((("Hello", 0.0, 0.3),), 0.5, is_final=False)
        assert go_on.wait(PATIENCE)
        list(audio)
        yield SpeechResult((("Hello,", 0.1, 0.4), ("world", 0.5, 0.9)), 1.0, is_final=True)

    query = StreamRequest(ContentType.raw(), {"start_ts": 100.0}).query()
    async with before(name, talks) as server, client(server, f"{PATH}?{query}") as web:
        await web.recv()  # connected
        await web.send(LOUD)
        partial = parse_message(str(await web.recv()))
        assert isinstance(partial, Partial)
        assert (partial.text, partial.end_ts) == ("Hello", 100.5)
        go_on.set()
        await web.send(EOS)
        messages, close = await ending(web)
    assert close.code == 1000
    final = parse_message(messages[-1])
    assert isinstance(final, Final)
    assert final.text == "Hello, world"
    assert [(word.value, word.ts, word.end_ts, word.confidence) for word in final.words] == [
        ("Hello", 100.1, 100.4, 0.9),
        ("world", 100.5, 100.9, 0.9),
    ]
    assert final.end_ts == (100.9 if name == "riva" else 101.0)


@SERVICES
async def test_no_message_is_larger_than_the_service_takes(name: str) -> None:
    sizes: list[int] = []

    def measures(call: Call) -> Iterator[SpeechResult]:
        sizes.extend(len(chunk) for chunk in call.audio())
        yield SpeechResult((("all", 0.0, 1.0),), 1.0, is_final=True)

    async with before(name, measures) as server, client(server, STREAM) as web:
        await web.send(bytes(300_001))
        await web.send(EOS)
        await ending(web)
    assert sum(sizes) == 300_001
    assert max(sizes) <= (65_536 if name == "riva" else 25_600)


@SERVICES
async def test_stereo_and_other_formats_are_converted_and_what_cannot_be_is_refused(name: str) -> None:
    configs: list[Any] = []

    def looks(call: Call) -> Iterator[SpeechResult]:
        configs.append(call.config)
        yield from hears_all(call)

    stereo = StreamRequest(ContentType.raw(48000, 2)).query()
    floats = StreamRequest(ContentType("audio/x-raw", "interleaved", 16000, "F32LE", 1)).query()
    planar = StreamRequest(ContentType("audio/x-raw", "non-interleaved", 16000, "F32LE", 2)).query()
    async with before(name, looks) as server:
        for query, second in ((stereo, 192_000), (floats, 64_000)):
            async with client(server, f"{PATH}?{query}") as web:
                await web.send(bytes(second))
                await web.send(EOS)
                messages, _ = await ending(web)
            final = parse_message(messages[-1])
            assert isinstance(final, Final)
            assert final.text == "Heard 32000,"
        async with client(server, f"{PATH}?{planar}") as web:
            _, close = await ending(web)
    assert (close.code, close.reason) == (
        4002,
        "2 channels of format=F32LE must be interleaved: send layout=interleaved",
    )
    assert [rate_of(name, config) for config in configs] == [(16000, 1), (16000, 1)]


def inner(name: str, config: Any) -> Any:
    return config.streaming_config.config if name == "google v2" else config.config


def rate_of(name: str, config: Any) -> tuple[int, int]:
    found = inner(name, config)
    found = found.explicit_decoding_config if name == "google v2" else found
    return found.sample_rate_hertz, found.audio_channel_count


@SERVICES
async def test_options_are_translated(name: str) -> None:
    configs: list[Any] = []

    def looks(call: Call) -> Iterator[SpeechResult]:
        configs.append(call.config)
        yield from hears_all(call)

    options: dict[str, Option] = {
        "language": "de",
        "filter_profanity": True,
        "skip_postprocessing": True,
        "enable_speaker_switch": True,
        "custom_vocabulary_id": "Speechbridge, good morning",
    }
    query = StreamRequest(ContentType.raw(8000), options).query()
    model = {"riva_model": "conformer"} if name == "riva" else {"google_model": "telephony"}
    async with before(name, looks, **model) as server, client(server, f"{PATH}?{query}") as web:
        await web.send(LOUD)
        await web.send(EOS)
        await ending(web)
    config = inner(name, configs[0])
    assert config.model == ("conformer" if name == "riva" else "telephony")
    assert rate_of(name, configs[0]) == (8000, 1)
    if name == "google v2":
        assert configs[0].recognizer == "projects/p/locations/global/recognizers/_"
        assert list(config.language_codes) == ["de-DE"]
        phrases = config.adaptation.phrase_sets[0].inline_phrase_set.phrases
        assert [phrase.value for phrase in phrases] == ["Speechbridge", "good morning"]
        assert config.features.diarization_config.max_speaker_count == 6
        features = config.features
    else:
        assert config.language_code == "de-DE"
        assert list(config.speech_contexts[0].phrases) == ["Speechbridge", "good morning"]
        assert config.speech_contexts[0].boost > 1
        assert config.diarization_config.enable_speaker_diarization
        features = config
    assert features.profanity_filter
    assert features.enable_word_time_offsets
    assert not features.enable_automatic_punctuation


@SERVICES
async def test_one_that_does_not_end_although_all_is_settled_is_hung_up_on_and_that_is_1000(name: str) -> None:
    def lingers(call: Call) -> Iterator[SpeechResult]:
        list(call.audio())
        yield SpeechResult((("all", 0.0, 1.0),), 1.0, is_final=True)
        call.stall()

    async with before(name, lingers) as server, client(server, STREAM) as web:
        await web.send(LOUD)
        await web.send(EOS)
        messages, close = await ending(web)
    assert "all" in str(messages[-1])
    assert close.code == 1000


# ---- refusals and errors ---------------------------------------------------------------------------------------------


@SERVICES
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("UNAUTHENTICATED", 4001),
        ("PERMISSION_DENIED", 4001),
        ("INVALID_ARGUMENT", 4002),
        ("NOT_FOUND", 4002),
        ("UNIMPLEMENTED", 4002),
    ],
)
@pytest.mark.parametrize("heard", [0, 1])
async def test_a_refusal_reaches_the_client_with_its_code_and_is_not_tried_again(
    name: str, status: str, code: int, heard: int
) -> None:
    calls: list[Call] = []

    def refuses(call: Call) -> Iterator[SpeechResult]:
        calls.append(call)
        for _ in range(heard):
            next(call.audio())
        call.context.abort(grpc.StatusCode[status], "not like this")
        yield from ()

    async with before(name, refuses) as server, client(server, STREAM) as web:
        await web.send(LOUD)
        _, close = await ending(web)
    assert close.code == code
    assert status in close.reason
    assert ("not like this" in close.reason) == (status == "INVALID_ARGUMENT")
    assert len(calls) == 1


@SERVICES
@pytest.mark.parametrize("status", ["RESOURCE_EXHAUSTED", "UNAVAILABLE", "ABORTED", "OUT_OF_RANGE", "INTERNAL"])
async def test_what_may_pass_is_tried_again_with_the_same_audio(name: str, status: str) -> None:
    calls: list[Call] = []

    def breaks_once(call: Call) -> Iterator[SpeechResult]:
        calls.append(call)
        if len(calls) == 1:
            next(call.audio())
            call.context.abort(grpc.StatusCode[status], "later")
        yield from hears_all(call)

    async with before(name, breaks_once) as server, client(server, STREAM) as web:
        await web.send(LOUD)
        await web.send(EOS)
        messages, close = await ending(web)
    assert close.code == 1000
    assert f"{len(LOUD)}" in str(messages[-1])
    assert len(calls) == 2


async def test_an_error_in_a_response_of_google_v1_is_judged_as_a_status() -> None:
    types = pytest.importorskip("google.cloud.speech_v1")

    class Dialect(GoogleV1):
        def write(self, said: SpeechResult) -> bytes:
            response = types.StreamingRecognizeResponse(error={"code": 7, "message": "no"})
            return bytes(types.StreamingRecognizeResponse.serialize(response))

    with serving(Dialect(), hears_all) as address:
        async with (
            service(None, **settings_for("google v1", address)) as server,
            client(server, STREAM) as web,
        ):
            await web.send(EOS)
            _, close = await ending(web)
    assert (close.code, close.reason) == (4001, "the speech service answered PERMISSION_DENIED")


# ---- abort, in every state -------------------------------------------------------------------------------------------


def silent_from_byte_0(call: Call) -> Iterator[SpeechResult]:
    call.stall()
    yield from ()


def silent_after_a_partial(call: Call) -> Iterator[SpeechResult]:
    next(call.audio())
    yield SpeechResult((("so", 0.0, 0.1),), 0.1, is_final=False)
    call.stall()


def silent_after_the_end(call: Call) -> Iterator[SpeechResult]:
    list(call.audio())
    call.stall()
    yield from ()


@SERVICES
@pytest.mark.parametrize("handle", [silent_from_byte_0, silent_after_a_partial, silent_after_the_end])
async def test_a_client_that_leaves_frees_slot_and_thread_within_the_drain_and_a_second(
    name: str, handle: Callable[[Call], Iterator[SpeechResult]]
) -> None:
    calls: list[Call] = []

    def remembers(call: Call) -> Iterator[SpeechResult]:
        calls.append(call)
        yield from handle(call)

    async with before(name, remembers, drain_seconds=0.2) as server:
        async with client(server, STREAM) as web:
            for _ in range(4):
                await web.send(LOUD)
            await until(lambda: calls)
        clock = asyncio.get_running_loop().time
        begun = clock()
        with anyio.fail_after(PATIENCE):
            await until(lambda: is_idle(server))
        assert clock() - begun < 0.2 + 1.0
        assert server.sessions.pool.abandoned == 0
    assert calls[0].ended.wait(PATIENCE)  # the service is told, too


@SERVICES
async def test_a_connection_that_stalls_is_given_up_in_time_and_can_be_aborted(name: str) -> None:
    """Nobody answers on the other side of the socket."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        async with service(None, **settings_for(name, address, connect_seconds=0.3)) as server:
            async with client(server, STREAM) as web:
                await web.send(LOUD)
                _, close = await ending(web)
            assert (close.code, close.reason) == (4013, "the speech service did not answer within 0.3 s")
        async with service(None, **settings_for(name, address, connect_seconds=60.0, drain_seconds=0.1)) as server:
            async with client(server, STREAM) as web:
                await web.send(LOUD)
                await until(lambda: server.sessions.pool.active)
            with anyio.fail_after(PATIENCE):
                await until(lambda: is_idle(server))
            assert server.sessions.pool.abandoned == 0


@SERVICES
async def test_a_server_that_is_not_there_is_4013_and_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    async with service(None, **settings_for(name, address)) as server:
        async with client(server, STREAM) as web:
            await web.send(LOUD)
            _, close = await ending(web)
        text = server.app.state.metrics.text().decode()
    assert (close.code, close.reason) == (4013, "the speech service cannot be reached")
    engine = name.partition(" ")[0]
    found = re.search(f'^speechbridge_upstream_connect_failures_total{{engine="{engine}"}} (.*)$', text, re.MULTILINE)
    assert found
    assert float(found[1]) > 0


@SERVICES
async def test_a_server_that_comes_back_is_reached_at_once(name: str) -> None:
    """Left alone, gRPC waits up to two minutes between two tries."""
    dialect = DIALECTS[name]()
    with serving(dialect, hears_all) as address:
        port = int(address.rpartition(":")[2])
    async with service(None, **settings_for(name, address)) as server, client(server, STREAM) as web:
        await web.send(LOUD)
        await asyncio.sleep(0.5)  # it is tried, and is not there
        with serving(dialect, hears_all, port):
            await web.send(EOS)
            with anyio.fail_after(PATIENCE):
                _, close = await ending(web)
    assert close.code == 1000


# ---- more streams than a connection carries --------------------------------------------------------------------------


@SERVICES
async def test_streams_do_not_wait_for_each_other_on_one_connection(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_channels, "STREAMS", 2)
    peers: set[str] = set()
    all_there = threading.Barrier(5)

    def meets(call: Call) -> Iterator[SpeechResult]:
        peers.add(call.context.peer())
        all_there.wait(PATIENCE)
        yield from hears_all(call)

    with serving(DIALECTS[name](), meets) as address:
        engine = choose(Settings.read(**settings_for(name, address)))
        async with engine.running():
            with anyio.fail_after(PATIENCE):
                await asyncio.gather(*(one(engine) for _ in range(5)))
    assert len(peers) == 3


async def one(engine: Engine) -> None:
    upstream = engine.open(StreamRequest(ContentType.raw()))
    async with Bridge(upstream.start, abort=upstream.abort) as bridge:
        await bridge.send(LOUD)
        bridge.end()
        assert [json.loads(message)["type"] async for message in bridge] == ["final"]


# ---- settings and secrets --------------------------------------------------------------------------------------------


async def test_rivas_key_goes_into_a_header_and_into_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    key = secret()
    seen: list[dict[str, str]] = []

    def refuses(call: Call) -> Iterator[SpeechResult]:
        seen.append(call.metadata)
        call.context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the key {key} is odd")
        yield from ()

    caplog.set_level(logging.DEBUG)
    async with before("riva", refuses, riva_key=key, riva_function="f-1") as server, client(server, STREAM) as web:
        await web.send(LOUD)
        _, close = await ending(web)
    assert close.code == 4002
    assert key not in close.reason + caplog.text
    assert (seen[0]["authorization"], seen[0]["function-id"]) == (f"Bearer {key}", "f-1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "riva"}, "riva needs SPEECHBRIDGE_RIVA_URL"),
        ({"engine": "google", "google_endpoint": "http://h:1"}, "v2 needs SPEECHBRIDGE_GOOGLE_PROJECT"),
    ],
)
def test_what_is_missing_is_said_in_a_line(settings: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSetting) as wrong:
        choose(Settings.read(**settings))
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_missing_credentials_are_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/none.json")
    with pytest.raises(WrongSetting) as wrong:
        choose(Settings.read(engine="google", google_project="p"))
    assert "SPEECHBRIDGE_ENGINE: google: no credentials: " in str(wrong.value)
    assert "\n" not in str(wrong.value)
