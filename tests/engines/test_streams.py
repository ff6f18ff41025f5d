"""What is common to all engines: an engine that only says what it takes gets the rest."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import Capabilities, Engine, Upstream, UpstreamClosed, reconnect
from speechbridge.engines.circuit import FAILURES
from speechbridge.engines.health import FAILING, Health
from speechbridge.engines.reconnect import ReconnectOptions, settled_by_final
from speechbridge.engines.streams import streams
from speechbridge.protocol.close import Close
from speechbridge.protocol.media import RAW_FORMATS
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.testing.script import final
from syncbridge import Bridge, Stuck
from tests.helpers.engines import rules_given
from tests.helpers.puppet import PATIENCE, Puppet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.protocol.request import Option

RAW = ContentType.raw()
S16 = frozenset({"S16LE"})


class Sdk:
    """Records what it is given. Breaks as the errors say, one a connection, once it has taken all audio."""

    def __init__(self, *errors: Exception, said: str = "heard") -> None:
        self.requests: list[StreamRequest] = []
        self.messages: list[bytes] = []
        self.said = said
        self._errors = iter(errors)

    def open(self, request: StreamRequest) -> Upstream:
        self.requests.append(request)
        return Upstream(self._start)

    def _start(self, audio: Iterator[bytes]) -> Iterator[str]:
        self.messages.extend(audio)
        error = next(self._errors, None)
        if error is not None:
            raise error
        yield self.said


def run(  # noqa: PLR0913 # all but the first can be left out
    sdk: Sdk,
    audio: list[bytes],
    kind: ContentType = RAW,
    *,
    settled: Callable[[str, float], float | None] | None = None,
    options: dict[str, Option] | None = None,
    takes: Capabilities | None = None,
) -> list[str]:
    engine = Engine("sdk", sdk.open, takes or Capabilities(), settled)
    return list(streams(engine, ReconnectOptions())(StreamRequest(kind, options or {})).start(iter(audio)))


def tone(rate: int, channels: int, seconds: float = 1.0) -> bytes:
    samples = 8000 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    return np.repeat(samples.astype("<i2"), channels).tobytes()


def test_an_engine_takes_what_it_says_and_16_bit_samples_if_it_says_nothing() -> None:
    floats, flac = ContentType("audio/x-raw", "interleaved", 16000, "F32LE", 1), ContentType("audio/x-flac")
    assert Capabilities().takes(RAW)
    assert Capabilities().takes(ContentType.raw(48000, 10))
    assert not Capabilities().takes(floats)
    assert not Capabilities().takes(flac)
    assert Capabilities(formats=frozenset({"F32LE"})).takes(floats)
    assert not Capabilities(formats=frozenset({"F32LE"})).takes(RAW)
    assert Capabilities(decodes=frozenset({"audio/x-flac"})).takes(flac)
    assert not Capabilities(rates=range(8000, 16001)).takes(ContentType.raw(44100))
    assert not Capabilities(channels=1).takes(ContentType.raw(16000, 2))


def test_audio_that_an_engine_takes_is_left_alone() -> None:
    sdk, kind = Sdk(), ContentType.raw(8000, 1)
    assert run(sdk, [b"ab" * 100], kind) == ["heard"]
    assert (sdk.requests[0].content_type, sdk.messages) == (kind, [b"ab" * 100])


def test_no_message_is_longer_than_the_engine_takes() -> None:
    sdk = Sdk()
    run(sdk, [bytes(10_001), b"", bytes(7)], takes=Capabilities(largest=4000))
    assert list(map(len, sdk.messages)) == [4000, 4000, 2001, 7]


@pytest.mark.parametrize("largest", [None, 7, 4000])
@pytest.mark.parametrize("kind", [RAW, ContentType.raw(16000, 2)])
def test_messages_hold_whole_samples_however_the_client_cuts_them(kind: ContentType, largest: int | None) -> None:
    """SDKs read them as arrays. Only the last one may be broken off, as the client did."""
    sdk, audio = Sdk(), bytes(range(251)) * 100
    cuts = [0, 1, 2, 3, 10, 11, 4012, 4013, 9000, 9001, len(audio)]
    run(sdk, [audio[a:b] for a, b in pairwise(cuts)], kind, takes=Capabilities(largest=largest, whole_samples=True))
    assert b"".join(sdk.messages) == audio
    assert {len(message) % (kind.frame or 0) for message in sdk.messages[:-1]} == {0}
    assert max(map(len, sdk.messages)) <= (largest or len(audio))


@pytest.mark.parametrize(
    ("kind", "options", "takes", "said"),
    [
        (
            ContentType("audio/x-flac"),
            {},
            Capabilities(),
            "this speech service does not decode audio/x-flac: send audio/x-raw",
        ),
        (
            ContentType("audio/x-raw", "interleaved", 16000, "S20LE" * 4, 1),  # the longest name
            {},
            Capabilities(formats=S16),
            f"format={'S20LE' * 4}: send {RAW_FORMATS}",
        ),
        (
            ContentType("audio/x-raw", "non-interleaved", 16000, "F32LE", 2),
            {},
            Capabilities(formats=S16),
            "2 channels of format=F32LE must be interleaved: send layout=interleaved",
        ),
        (
            ContentType("audio/x-raw", "non-interleaved", 16000, "S16LE", 2),
            {},
            Capabilities(channels=1),
            "accepts 1 channel(s)",
        ),
        (
            ContentType("audio/x-raw", "non-interleaved", 48000, "S16LE", 2),
            {},
            Capabilities(rates=range(8000, 16001)),
            "accepts rate=48000 only with layout=interleaved",
        ),
        (RAW, {"language": "fr"}, Capabilities(languages=frozenset({"en", "de"})), "knows language=de, en"),
    ],
)
def test_what_an_engine_cannot_take_is_refused_with_what_it_takes(
    kind: ContentType, options: dict[str, Option], takes: Capabilities, said: str
) -> None:
    sdk = Sdk()
    with pytest.raises(UpstreamClosed) as refused:
        run(sdk, [b""], kind, options=options, takes=takes)
    assert refused.value.close.code == 4002
    assert said in refused.value.close.reason
    assert sdk.requests == []


def test_without_settled_a_stream_has_one_connection() -> None:
    sdk = Sdk(UpstreamClosed(Close(1006)))
    with pytest.raises(UpstreamClosed):
        run(sdk, [tone(16000, 1)])
    assert len(sdk.requests) == 1


def test_with_settled_it_is_resumed_where_its_own_function_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told where the connection began, in seconds of the stream."""
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    asked: list[float] = []

    def settled(_response: str, begun: float) -> float:
        asked.append(begun)
        return begun + 0.5

    class Breaks(Sdk):
        def _start(self, audio: Iterator[bytes]) -> Iterator[str]:
            self.messages.append(next(audio))
            yield "heard"
            if len(self.requests) == 1:
                raise UpstreamClosed(Close(1006))
            self.messages.extend(audio)

    sdk = Breaks()
    run(sdk, [tone(16000, 1)], settled=settled, options={"start_ts": 100.0})
    assert [request.options["start_ts"] for request in sdk.requests] == [100.0, 100.5]
    assert asked == [100.0, 100.5]
    assert list(map(len, sdk.messages)) == [32000, 16000]


def test_the_engines_lifetime_room_and_hold_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = rules_given(monkeypatch)
    engine = Engine("sdk", Sdk().open, Capabilities(lifetime=285.0, room=90.0, hold=70.0, tail=0.2), settled_by_final)
    streams(engine, ReconnectOptions())(StreamRequest(RAW))
    streams(engine, ReconnectOptions(lifetime=60.0))(StreamRequest(RAW))
    assert [rule.lifetime for rule in rules] == [285.0, 60.0]
    assert (rules[0].room, rules[0].hold, rules[0].tail) == (90 * 32000, 70.0, 6400)


def test_a_service_that_fails_for_all_opens_the_circuit_and_one_that_answers_closes_it() -> None:
    broken = UpstreamClosed(Close(4013))
    sdk = Sdk(*[broken] * FAILURES)
    engine = Engine("sdk", sdk.open)
    opened = streams(engine, ReconnectOptions(answer=0.0))
    for _ in range(FAILURES):
        with pytest.raises(UpstreamClosed):
            list(opened(StreamRequest(RAW)).start(iter([])))
    assert engine.health.circuit.is_open
    assert engine.health.trouble() == FAILING
    with pytest.raises(UpstreamClosed, match=FAILING):
        list(opened(StreamRequest(RAW)).start(iter([])))
    assert len(sdk.requests) == FAILURES + 1  # it was opened, and not started
    engine.health.answered()
    assert list(opened(StreamRequest(RAW)).start(iter([]))) == ["heard"]
    assert engine.health.trouble() is None


@pytest.mark.parametrize(
    "error", [UpstreamClosed(Close(4002)), ValueError("its own"), UpstreamClosed(Close(4013), is_retryable=False)]
)
def test_what_is_one_streams_own_fault_does_not_count_against_the_service(error: Exception) -> None:
    engine = Engine("sdk", Sdk(*[error] * 2 * FAILURES).open)
    for _ in range(2 * FAILURES):
        with pytest.raises(type(error)):
            list(streams(engine, ReconnectOptions())(StreamRequest(RAW)).start(iter([])))
    assert not engine.health.circuit.is_open


def test_an_answer_that_only_the_engine_saw_counts_too() -> None:
    """Rev.ai accepts a stream before there is anything to say."""

    def breaks(audio: Iterator[bytes]) -> Iterator[str]:
        raise UpstreamClosed(Close(1006))

    engine = Engine("sdk", lambda _request: Upstream(breaks, has_answered=lambda: True))
    for _ in range(2 * FAILURES):
        with pytest.raises(UpstreamClosed):
            list(streams(engine, ReconnectOptions())(StreamRequest(RAW)).start(iter([])))
    assert not engine.health.circuit.is_open


def test_a_stream_that_waits_for_the_circuit_can_be_aborted() -> None:
    engine = Engine("sdk", Sdk().open)
    for _ in range(FAILURES):
        engine.health.circuit.failed(entry) if (entry := engine.health.circuit.enter(lambda: False, 0.0)) else None
    upstream = streams(engine, ReconnectOptions())(StreamRequest(RAW))
    endings: Counter[str] = Counter()

    def read() -> None:
        try:
            list(upstream.start(iter([])))
        except UpstreamClosed as ending:
            endings[ending.close.reason] += 1

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert upstream.abort is not None
    upstream.abort()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_what_the_engine_itself_knows_to_be_wrong_comes_first() -> None:
    why: list[str | None] = [None]
    health = Health(check=lambda: why[0])
    assert health.trouble() is None
    health.unreachable("no such host", is_retryable=False)
    assert health.trouble() == "no such host"
    why[0] = "it is being restarted"
    assert health.trouble() == "it is being restarted"


async def test_an_engine_that_is_mute_after_the_end_is_aborted_in_time() -> None:
    puppet = Puppet()
    engine = Engine("sdk", lambda _request: Upstream(puppet.start, puppet.abort))  # type: ignore[arg-type] # str will do
    puppet.pull()
    upstream = streams(engine, ReconnectOptions(answer=0.1))(StreamRequest(RAW))
    async with Bridge(upstream.start, abort=upstream.abort) as bridge:
        await bridge.send(b"audio")
        bridge.end()
        with pytest.raises(Stuck):
            await anext(bridge)
    assert puppet.taken == [b"audio"]


def test_a_final_of_our_protocol_settles_up_to_its_end() -> None:
    assert settled_by_final(final("so", end_ts=12.5).text, 3.0) == 12.5
    assert settled_by_final("no final", 3.0) is None
