"""What is particular to Rev.ai's protocol in streams that outlive their connections."""

from __future__ import annotations

import asyncio
import logging
import threading
from itertools import islice, repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import Capabilities, Upstream, UpstreamClosed, reconnect
from speechbridge.engines.reconnect import TRIES, ReconnectOptions, resuming
from speechbridge.engines.rev import RevEngine, Timeouts
from speechbridge.protocol.close import END_OF_INPUT, NO_DATA, Close
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.server import serving
from speechbridge.testing.script import End, Greet, Scripted, Wait, final
from syncbridge import Bridge, Stuck
from tests.helpers import spoken
from tests.helpers.engines import rules_given
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND = 32000  # bytes
ROOM_SECONDS = Capabilities().room
PATIENCE = 5.0  # seconds; nothing waits this long unless it is broken
LOUD = (spoken.audio(0, spoken.WORD) * 4)[:SECOND]
BREAK = UpstreamClosed(Close(1006))


def said(*words: str, end_ts: float) -> str:
    return final(*words, end_ts=end_ts).text


class Engine:
    """Answers each connection by the next function, all further ones by the last."""

    def __init__(
        self, *listens: Callable[[Iterator[bytes]], Iterator[str]], abort: Callable[[], object] | None = None
    ) -> None:
        self._abort = abort
        self.requests: list[StreamRequest] = []
        self._listens = listens

    def __call__(self, request: StreamRequest) -> Upstream:
        listen = self._listens[min(len(self.requests), len(self._listens) - 1)]
        self.requests.append(request)
        return Upstream(listen, self._abort)

    @property
    def starts(self) -> list[float]:
        return [float(request.options.get("start_ts", 0)) for request in self.requests]


def breaks(audio: Iterator[bytes]) -> Iterator[str]:
    next(audio)
    raise BREAK


def hears_all(audio: Iterator[bytes]) -> Iterator[str]:
    yield f"{sum(map(len, audio))} bytes"


def answers(audio: Iterator[bytes]) -> Iterator[str]:
    seconds = 0.0
    for chunk in audio:
        seconds += len(chunk) / SECOND
        yield said("words", end_ts=seconds)


def run(engine: Engine, audio: Iterator[bytes], kind: ContentType | None = None, **options: float) -> list[str]:
    request = StreamRequest(kind or ContentType.raw(), options)
    return list(resuming(engine, ReconnectOptions())(request).start(audio))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))


@pytest.mark.parametrize("offset", [0.0, 12.5])
def test_a_new_connection_begins_at_the_settled_sample_and_gets_its_start_ts(offset: float) -> None:
    def listen(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield said("one", end_ts=offset + 0.26)
        raise BREAK

    engine = Engine(listen, hears_all)
    assert run(engine, iter([bytes(SECOND)]), start_ts=offset)[-1] == f"{SECOND - 0.26 * SECOND:.0f} bytes"
    assert engine.starts == [offset, offset + 0.26]


def test_a_new_connection_begins_with_a_whole_frame_wherever_messages_end() -> None:
    """Rotated after an odd byte, a stream would be noise from there on."""
    options = ReconnectOptions(lifetime=1e-9)  # every message is the last of its connection
    heard: list[bytes] = []

    def listen(audio: Iterator[bytes]) -> Iterator[str]:
        heard.append(b"".join(audio))
        yield from ()

    engine = Engine(listen)
    kind, pcm = ContentType.raw(48000, 2), bytes(range(252))
    messages = iter([pcm[:101], pcm[101:102], pcm[102:]])
    list(resuming(engine, options)(StreamRequest(kind)).start(messages))
    starts = [round(start * 48000 * 4) for start in engine.starts]
    assert starts == [0, 100]
    assert heard == [pcm[:101], pcm[100:]]


@pytest.mark.parametrize(
    "kind",
    [
        ContentType("audio/x-wav"),
        ContentType("audio/x-raw", "interleaved", 16000, "F32LE", 1),
        ContentType("audio/x-raw", "non-interleaved", 16000, "S16LE", 2),
    ],
)
def test_a_format_that_cannot_be_cut_has_one_connection(kind: ContentType) -> None:
    engine = Engine(breaks)
    with pytest.raises(UpstreamClosed):
        run(engine, iter([bytes(10)]), kind)
    assert len(engine.requests) == 1


@pytest.mark.parametrize("code", [1007, 4001, 4002, 4003])
def test_a_refusal_is_not_tried_again(code: int) -> None:
    def refuses(audio: Iterator[bytes]) -> Iterator[str]:
        raise UpstreamClosed(Close(code))

    engine = Engine(refuses)
    with pytest.raises(UpstreamClosed, match=str(code)):
        run(engine, repeat(LOUD, 2))
    assert len(engine.requests) == 1


def test_the_number_of_tries_that_settle_nothing_is_limited() -> None:
    engine = Engine(breaks)
    with pytest.raises(UpstreamClosed):
        run(engine, repeat(LOUD, 2))
    assert len(engine.requests) == TRIES


def test_a_speech_service_that_stays_unavailable_is_waited_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the circuit breaker is open a try takes 30 s: sixteen of them were eight minutes without a word."""
    now = 0.0

    def unavailable(_audio: Iterator[bytes]) -> Iterator[str]:
        nonlocal now
        now += 30.0
        raise UpstreamClosed(Close(4013))

    def breaks_late(audio: Iterator[bytes]) -> Iterator[str]:
        nonlocal now
        now += 30.0
        return breaks(audio)

    monkeypatch.setattr(reconnect, "time", SimpleNamespace(monotonic=lambda: now))
    for listens, tries in (([unavailable], 3), ([unavailable, breaks_late, unavailable], 4), ([breaks_late], TRIES)):
        engine = Engine(*listens)
        with pytest.raises(UpstreamClosed):
            run(engine, repeat(LOUD, 2))
        assert len(engine.requests) == tries


def test_no_reconnect_before_there_is_audio_to_send() -> None:
    """Rev.ai closes a connection on which nothing comes. One after the other, they would cost 15 s each."""
    connected_when_asked: list[int] = []

    def idle(audio: Iterator[bytes]) -> Iterator[str]:
        raise UpstreamClosed(Close(1000, NO_DATA))

    def microphone() -> Iterator[bytes]:
        connected_when_asked.append(len(engine.requests))
        yield LOUD

    engine = Engine(idle, lambda audio: iter([f"{sum(map(len, audio))} bytes", said(end_ts=1.0)]))
    assert run(engine, microphone())[0] == f"{SECOND} bytes"
    assert connected_when_asked == [1]


def test_a_stream_that_is_settled_to_its_end_needs_no_further_connection() -> None:
    def listen(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield said("all", end_ts=1.0)
        raise BREAK

    engine = Engine(listen)
    assert len(run(engine, iter([LOUD]))) == 1
    assert len(engine.requests) == 1


def test_a_good_end_is_doubted_once_while_much_speech_is_unanswered() -> None:
    """Rev.ai may drop what was not endpointed yet; and its "End of input" may cross an EOS."""

    def ends_early(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield said("some", end_ts=1.0)

    def says_nothing(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield from ()

    engine = Engine(ends_early, says_nothing)
    assert len(run(engine, repeat(LOUD, 5))) == 1
    assert engine.starts == [0, 1.0]  # the second got no further, so it is believed

    engine = Engine(ends_early, lambda audio: iter([*[said("the rest", end_ts=5.0) for _ in [list(audio)]]]))
    assert len(run(engine, repeat(LOUD, 5))) == 2
    assert engine.starts == [0, 1.0]


def test_a_good_end_is_believed_when_what_is_unanswered_is_no_speech() -> None:
    engine = Engine(hears_all)
    run(engine, repeat(bytes(SECOND), 5))
    assert len(engine.requests) == 1


def test_a_sound_is_speech_however_much_silence_is_in_the_same_chunk() -> None:
    engine = Engine(hears_all)
    run(engine, iter([bytes(30 * SECOND) + LOUD[: SECOND // 100]]))
    assert len(engine.requests) == 2


def test_audio_of_a_fast_client_is_not_evicted_while_it_may_be_in_a_socket_buffer() -> None:
    """A file's minutes are in socket buffers within a moment. When the connection breaks, they are given again."""

    def takes_a_lot(audio: Iterator[bytes]) -> Iterator[str]:
        list(islice(audio, int(ROOM_SECONDS) + 1))
        raise BREAK

    engine = Engine(takes_a_lot, answers)
    assert len(run(engine, repeat(LOUD, 200))) >= 200
    assert engine.starts == [0, 0]


def test_an_upstream_that_falls_silent_when_there_is_no_more_room_is_replaced() -> None:
    """It was given all there is room for, and answered since: no further chunk comes to tell that it is mute."""
    aborted = threading.Event()

    def falls_silent(audio: Iterator[bytes]) -> Iterator[str]:
        sender = threading.Thread(target=lambda: list(audio), daemon=True)  # as the SDK does
        sender.start()
        yield "a partial"
        assert aborted.wait(PATIENCE)
        raise BREAK

    engine = Engine(falls_silent, answers, abort=aborted.set)
    upstream = resuming(engine, ReconnectOptions(silence=0.05))(StreamRequest(ContentType.raw()))
    heard = list(upstream.start(repeat(LOUD, 200)))
    assert len(heard) >= 200
    assert engine.starts == [0, 0]


def test_silence_is_evicted_for_lack_of_room_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def breaks_late(audio: Iterator[bytes]) -> Iterator[str]:
        list(islice(audio, int(ROOM_SECONDS) + 10))
        raise BREAK

    engine = Engine(breaks_late, hears_all)
    with caplog.at_level(logging.WARNING):
        run(engine, repeat(bytes(SECOND), 100))
    assert engine.starts == [0, 10.0]
    assert "10.0 s of audio cannot be sent again" in caplog.text


@pytest.mark.parametrize(
    ("kind", "room", "hold"),
    [
        (ContentType.raw(), 60 * SECOND, 30.0),
        (ContentType.raw(48000, 1), 3 * 2**20, 30 * 3 * 2**20 / (60 * 96_000)),
        (ContentType.raw(48000, 10), 3 * 2**20, 30 * 3 * 2**20 / (60 * 960_000)),  # a minute is 57 MB
    ],
)
def test_a_stream_keeps_no_more_bytes_whatever_rate_and_channels_its_client_names(
    kind: ContentType, room: int, hold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no client waits longer for a place in a small room than it takes to fill half of it."""
    rules = rules_given(monkeypatch)
    resuming(Engine(hears_all), ReconnectOptions(stream_bytes=3 * 2**20))(StreamRequest(kind))
    assert rules[0].room == room
    assert rules[0].hold == pytest.approx(hold)


@pytest.mark.parametrize("end_ts", ["NaN", "Infinity", "1e308", "-1", '"soon"', "null"])
def test_an_invalid_time_settles_nothing(end_ts: str) -> None:
    def listen(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        yield f'{{"type":"final","end_ts":{end_ts},"elements":[]}}'
        raise BREAK

    engine = Engine(listen, hears_all)
    assert run(engine, iter([bytes(SECOND)]))[-1] == f"{SECOND} bytes"


async def test_the_real_sdk_gets_the_rest_on_a_second_connection() -> None:
    scripted = Scripted(
        (Greet(), Wait(audio=3 * SECOND), final("one", end_ts=1.5), End(4010, "restarting")),
        (Greet(), Wait(eos=True), final("two", ts=1.5, end_ts=3.0), End(1000, END_OF_INPUT)),
    )
    async with serving(scripted) as server:
        upstream = resuming(RevEngine(lambda: server.url, secret()), ReconnectOptions())(
            StreamRequest(ContentType.raw())
        )
        async with Bridge(upstream.start, abort=upstream.abort) as bridge:
            for _ in range(3):
                await bridge.send(LOUD)
            bridge.end()
            assert [response async for response in bridge] == [
                said("one", end_ts=1.5),
                final("two", ts=1.5, end_ts=3.0).text,
            ]
    first, second = scripted.clients
    assert (first.audio, second.audio) == (3 * SECOND, 1.5 * SECOND)
    assert second.parameters["start_ts"] == "1.5"


async def test_the_wait_for_last_words_is_bounded_once_over_all_connections() -> None:
    """Each connection had the whole time, up to sixteen in a row, and Rev.ai bills each."""
    scripted = Scripted((Greet(), Wait(eos=True), Wait()))
    async with serving(scripted) as server:
        engine = RevEngine(lambda: server.url, secret(), Timeouts(answer=0.3))
        upstream = resuming(engine, ReconnectOptions(answer=0.3))(StreamRequest(ContentType.raw()))
        async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
            for _ in range(3):
                await bridge.send(LOUD)
            bridge.end()
            with pytest.raises((UpstreamClosed, Stuck)):
                [response async for response in bridge]
    assert len(scripted.clients) == 1
