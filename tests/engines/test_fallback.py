"""A second engine, while the first one fails."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, NoReturn

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import Capabilities, Engine, Upstream, UpstreamClosed, circuit, fallback, reconnect
from speechbridge.engines.circuit import FAILURES
from speechbridge.engines.fallback import STAYS, Choice, Fallback, common
from speechbridge.engines.health import FAILING, Health
from speechbridge.engines.reconnect import ReconnectOptions, settled_by_final
from speechbridge.engines.streams import streams
from speechbridge.protocol.close import Close
from speechbridge.protocol.messages import Final, parse_message, with_engine
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.testing.script import final, partial
from syncbridge import Bridge
from tests.helpers.puppet import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from speechbridge.protocol.request import Option

    Listen = Callable[[Iterator[bytes], float], Iterator[str]]

SECOND = 32000  # bytes
RAW = ContentType.raw()
DEAD = UpstreamClosed(Close(4013, "the speech service cannot be reached"))
BROKEN = UpstreamClosed(Close(1006))


def audio(seconds: int) -> list[bytes]:
    """Return chunks of a second, each full of its number, and loud."""
    return [bytes([number, 0x40]) * (SECOND // 2) for number in range(seconds)]


def number_of(chunk: bytes) -> int:
    assert len(chunk) == SECOND
    assert chunk == chunk[:2] * (SECOND // 2)
    return chunk[0]


def hears(seconds: int | None = None, ends: Exception = BROKEN) -> Listen:
    """Say a final with the number of each chunk. It breaks with the first chunk after so many seconds."""

    def listen(feed: Iterator[bytes], begin: float) -> Iterator[str]:
        for heard, chunk in enumerate(feed):
            if heard == seconds:
                raise ends
            yield final(str(number_of(chunk)), ts=begin + heard, end_ts=begin + heard + 1).text

    return listen


def fails(error: Exception = DEAD) -> Listen:
    def listen(_feed: Iterator[bytes], _begin: float) -> NoReturn:
        raise error

    return listen


class Service:
    """An engine that answers each connection by the next function, all further ones by the last."""

    def __init__(self, name: str, *listens: Listen, takes: Capabilities | None = None) -> None:
        self.begun: list[float] = []  # where each connection began, that was started
        self._listens = chain(listens, repeat(listens[-1]))
        self.engine = Engine(name, self.open, takes or Capabilities(), settled_by_final)

    @property
    def circuit(self) -> circuit.Circuit:
        return self.engine.health.circuit

    def open(self, request: StreamRequest) -> Upstream:
        begin = float(request.options.get("start_ts", 0.0))

        def start(feed: Iterator[bytes]) -> Iterator[str]:
            self.begun.append(begin)
            return next(self._listens)(feed, begin)

        return Upstream(start, None, b"".join)


def run(  # noqa: PLR0913, PLR0917 # all but the first three can be left out
    first: Service,
    second: Service,
    seconds: int,
    kind: ContentType = RAW,
    options: dict[str, Option] | None = None,
    watch: Callable[[str], object] = lambda _response: None,
) -> list[tuple[str, float, float, str | None]]:
    """Return what the client is told: words, times, and who said them."""
    opened = streams(first.engine, ReconnectOptions(), second.engine)
    told = []
    for response in opened(StreamRequest(kind, options or {})).start(iter(audio(seconds))):
        watch(response)
        message = parse_message(response)
        assert isinstance(message, Final)
        told.append((message.text, message.ts, message.end_ts, message.engine))
    return told


def expected(*spans: tuple[str | None, Iterable[int]]) -> list[tuple[str, float, float, str | None]]:
    return [(str(number), number, number + 1, engine) for engine, numbers in spans for number in numbers]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "BACKOFF", Backoff(60.0, 60.0))


@pytest.fixture
def many_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is due at once, however long the one before took."""
    monkeypatch.setattr(circuit, "BACKOFF", Backoff(0.0, 0.0))
    monkeypatch.setattr(fallback, "STAYS", 0.0)


# ---- moving ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_probes")
def test_an_engine_that_is_dead_from_the_beginning_is_left_before_the_first_word() -> None:
    first, second = Service("first", fails()), Service("second", hears())
    assert run(first, second, 6) == expected(("second", range(6)))
    assert (len(first.begun), second.begun) == (FAILURES, [0.0])


@pytest.mark.usefixtures("no_probes")
def test_an_engine_that_dies_in_mid_speech_is_left_where_the_settled_audio_ends() -> None:
    first, second = Service("first", hears(4), fails()), Service("second", hears())
    assert run(first, second, 10) == expected((None, range(4)), ("second", range(4, 10)))
    assert (set(first.begun), second.begun) == ({0.0, 4.0}, [4.0])


@pytest.mark.usefixtures("no_probes")
def test_a_new_stream_begins_on_the_second_while_the_first_ones_circuit_is_open() -> None:
    first, second = Service("first", fails()), Service("second", hears())
    run(first, second, 2)
    assert run(first, second, 3) == expected(("second", range(3)))
    assert len(first.begun) == FAILURES


@pytest.mark.usefixtures("no_probes")
def test_a_stream_goes_back_at_the_next_final_once_the_first_has_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "STAYS", 0.0)  # or on a busy machine it stays for longer than the stream lasts
    first, second = Service("first", *[fails()] * FAILURES, hears()), Service("second", hears())

    def heals(response: str) -> None:  # another stream was answered
        if '"3"' in response:
            first.circuit.succeeded()

    told = run(first, second, 10, watch=heals)
    assert told == expected(("second", range(5)), (None, range(5, 10)))
    assert (first.begun[-1], second.begun) == (5.0, [0.0])


@pytest.mark.usefixtures("many_probes")
def test_probes_that_fail_lose_and_double_nothing() -> None:
    """Each final of the second is followed by a probe."""
    first, second = Service("first", hears(2), *[fails()] * (FAILURES + 3), hears()), Service("second", hears())
    told = run(first, second, 8)
    assert [words for words, *_ in told] == list("01234567")
    assert told == expected((None, range(2)), ("second", range(2, 6)), (None, range(6, 8)))
    assert second.begun == [2.0, 3.0, 4.0, 5.0]


@pytest.mark.usefixtures("many_probes")
def test_engines_that_die_in_turns_lose_and_double_nothing() -> None:
    dies = [*[fails()] * FAILURES, hears(2)]
    first, second = Service("first", hears(3), *dies * 10), Service("second", hears(1))
    told = run(first, second, 40)
    assert [span[:3] for span in told] == [span[:3] for span in expected((None, range(40)))]
    assert {engine for *_, engine in told} == {None, "second"}


@pytest.mark.usefixtures("many_probes")
def test_a_stream_that_finds_the_probe_taken_stays_with_the_second() -> None:
    """It had found it due, and had ended its connection for it. That is no failure."""
    first, second = Service("first", fails()), Service("second", hears())
    probes = []

    def takes_it(_response: str) -> None:
        probes.append(first.circuit.enter(lambda: False, 0.0))

    assert run(first, second, 3, watch=takes_it) == expected(("second", range(3)))
    assert (len(first.begun), second.begun, len(list(filter(None, probes)))) == (FAILURES, [0.0, 1.0], 1)


@pytest.mark.usefixtures("many_probes")
def test_when_both_are_dead_the_stream_ends_with_4013(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "TRIES", 40)
    first, second = Service("first", fails()), Service("second", fails())
    with pytest.raises(UpstreamClosed) as ending:
        run(first, second, 3)
    assert (ending.value.close.code, ending.value.is_retryable) == (4013, True)
    assert (len(first.begun), len(second.begun)) == (22, 18)  # in turns, from the fifth on


@pytest.mark.usefixtures("no_probes")
def test_when_both_are_dead_whichever_heals_first_serves_the_stream() -> None:
    first, second = Service("first", fails()), Service("second", *[fails()] * 3, hears())
    assert run(first, second, 3) == expected(("second", range(3)))
    assert second.begun == [0.0] * 4


def test_the_try_after_the_one_that_opened_the_circuit_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes elsewhere. Its pause was longer than that to the next probe, and so it probed again and again."""
    failures: list[int] = []

    def pause(_self: Backoff, failures_in_a_row: int) -> float:
        failures.append(failures_in_a_row)
        return 0.0

    monkeypatch.setattr(Backoff, "pause", pause)
    assert run(Service("first", fails()), Service("second", hears()), 2) == expected(("second", range(2)))
    assert failures == list(range(1, FAILURES))


def test_a_stream_that_a_probe_cost_long_stays_with_the_second_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that drops all packets costs ten seconds a probe: most of the time it is to be served."""
    monkeypatch.setattr(circuit, "BACKOFF", Backoff(0.0, 0.0))
    now = [0.0]
    first, second = Service("first", *[fails()] * FAILURES, fails(), hears()), Service("second", hears())
    stream = Fallback(Choice(first.engine, first.open), Choice(second.engine, second.open), lambda: now[0])
    for _ in range(FAILURES):
        first.circuit.count_failure()
    [choice, _] = stream.choices()
    stream.starts(choice)
    now[0] = 10.0
    assert stream.failed(DEAD).retry_at_once
    connection = stream.open(StreamRequest(RAW))
    assert len(list(connection.start(iter(audio(1))))) == 1
    assert (first.begun, second.begun) == ([], [0.0])
    now[0] = 10.0 + 10.0 * STAYS - 0.1
    assert not connection.is_to_be_replaced()
    now[0] += 0.2
    assert connection.is_to_be_replaced()


def test_one_whose_second_fails_meanwhile_tries_the_first_again() -> None:
    first, second = Service("first", hears()), Service("second", fails())
    stream = Fallback(Choice(first.engine, first.open), Choice(second.engine, second.open), lambda: 10.0)
    for _ in range(FAILURES):
        first.circuit.count_failure()
    assert stream.failed(DEAD).retry_at_once  # it took ten seconds
    with pytest.raises(UpstreamClosed):
        list(stream.open(StreamRequest(RAW)).start(iter(audio(1))))
    assert [choice.engine.name for choice in stream.choices()] == ["first", "second"]


def test_an_engine_that_does_not_answer_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By each stream that finds out, and counted."""
    freed = threading.Event()

    def mute(feed: Iterator[bytes], _begin: float) -> Iterator[str]:
        next(feed)
        assert freed.wait(PATIENCE)
        raise BROKEN

    first, second = Service("first", mute, hears()), Service("second", hears())
    engine = replace(first.engine, open=lambda request: replace(first.open(request), abort=freed.set))
    opened = streams(engine, ReconnectOptions(silence=0.1), second.engine)
    counted: list[int] = []
    monkeypatch.setattr(engine.health.circuit, "count_failure", lambda: counted.append(1))
    told = [parse_message(response) for response in opened(StreamRequest(RAW)).start(iter(audio(2)))]
    assert [(m.text, m.engine) for m in told if isinstance(m, Final)] == [("0", "second"), ("1", "second")]
    assert counted == [1]


# ---- what is no outage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [4001, 4002, 4003, 1007])
def test_a_refusal_by_the_first_ends_the_stream_at_once(code: int) -> None:
    first, second = Service("first", fails(UpstreamClosed(Close(code, "no")))), Service("second", hears())
    for _ in range(2 * FAILURES):
        with pytest.raises(UpstreamClosed, match="no") as ending:
            run(first, second, 2)
        assert (ending.value.close.code, ending.value.is_retryable) == (code, False)
    assert not second.begun


def test_a_break_that_is_mended_at_the_next_try_moves_nothing() -> None:
    first, second = Service("first", hears(2), fails(), hears()), Service("second", hears())
    assert run(first, second, 5) == expected((None, range(5)))
    assert not second.begun


def test_an_engine_that_never_was_there_counts_as_failing() -> None:
    """Without a fallback its streams are told of the address at once."""
    nowhere = UpstreamClosed(Close(4013, "the speech service's host is not known"), is_retryable=False)
    first, second = Service("first", fails(nowhere)), Service("second", hears())
    assert run(first, second, 3) == expected(("second", range(3)))


@pytest.mark.usefixtures("no_probes")
@pytest.mark.parametrize("has_connected", [False, True])
def test_an_engine_that_does_not_even_answer_a_connect_is_left_after_one_try(*, has_connected: bool) -> None:
    """Five would take half a minute."""
    reason = "the speech service did not answer within 5 s"
    hangs = Health().unreachable(reason, is_retryable=has_connected, has_timed_out=True)
    first, second = Service("first", fails(hangs)), Service("second", hears())
    assert run(first, second, 3) == expected(("second", range(3)))
    assert (len(first.begun), second.begun) == (1, [0.0])


@pytest.mark.usefixtures("no_probes")
def test_an_engine_that_cannot_even_be_opened_counts_as_failing() -> None:
    """As the embedded recognizer, while it is being restarted."""
    first, second = Service("first", fails()), Service("second", hears())
    tries = []

    def open_stream(_request: StreamRequest) -> Upstream:
        tries.append(1)
        raise UpstreamClosed(Close(4013, "being restarted"))

    engine = Engine("first", open_stream, settled=settled_by_final)
    first.engine = engine
    assert run(first, second, 3) == expected(("second", range(3)))
    assert engine.health.circuit.is_open
    assert len(tries) == FAILURES


@pytest.mark.usefixtures("no_probes")
def test_a_stream_that_the_second_refuses_waits_for_the_first() -> None:
    """It does not know the stream's options, say; the first does."""
    first = Service("first", *[fails()] * FAILURES, hears())
    second = Service("second", fails(UpstreamClosed(Close(4002, "no such language"))))
    request = StreamRequest(RAW)
    heard: list[str] = []

    def heals(_failures: int) -> float:
        if second.begun:
            first.circuit.succeeded()
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconnect.BACKOFF.__class__, "pause", lambda _self, failures: heals(failures))
        opened = streams(first.engine, ReconnectOptions(), second.engine)
        heard.extend(opened(request).start(iter(audio(2))))
    assert [json.loads(text)["end_ts"] for text in heard] == [1.0, 2.0]
    assert len(second.begun) == 1


def test_a_stream_that_the_second_cannot_take_has_no_fallback() -> None:
    first = Service("first", *[fails()] * (FAILURES - 1), hears())
    second = Service("second", hears(), takes=Capabilities(languages=frozenset({"en"})))
    assert run(first, second, 2, options={"language": "fr"}) == expected((None, range(2)))
    assert not second.begun


def test_a_stream_that_the_first_cannot_take_is_refused() -> None:
    first = Service("first", hears(), takes=Capabilities(languages=frozenset({"en"})))
    with pytest.raises(UpstreamClosed, match="knows language=en"):
        run(first, Service("second", hears()), 2, options={"language": "fr"})


# ---- what each engine is given ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_probes")
def test_a_stream_takes_what_both_engines_take() -> None:
    """What one of them does not take is decoded for both, before it gets to either."""
    wide = Capabilities(formats=frozenset({"S16LE", "F32LE"}), decodes=frozenset({"audio/x-flac", "audio/ogg"}))
    narrow = Capabilities(rates=range(16000, 16001), channels=1, decodes=frozenset({"audio/ogg"}))
    for both in (common(wide, narrow), common(narrow, wide)):
        assert both.takes(RAW)
        assert both.takes(ContentType("audio/ogg"))
        assert not both.takes(ContentType("audio/x-flac"))
        assert not both.takes(ContentType.raw(48000))
        assert not both.takes(ContentType.raw(16000, 2))
        assert not both.takes(replace(RAW, format="F32LE"))


@pytest.mark.usefixtures("no_probes")
def test_each_engine_is_given_messages_of_its_size() -> None:
    heard: list[int] = []

    def counts(feed: Iterator[bytes], _begin: float) -> Iterator[str]:
        heard.extend(len(chunk) for chunk in feed)
        yield from ()

    first, second = Service("first", fails()), Service("second", counts, takes=Capabilities(largest=800))
    run(first, second, 2)
    run(first, second, 3)
    assert max(heard) == 800


@pytest.mark.usefixtures("no_probes")
def test_a_stream_with_one_connection_begins_where_it_is_served() -> None:
    flac = Capabilities(decodes=frozenset({"audio/x-flac"}))
    first, second = Service("first", fails(), takes=flac), Service("second", hears(), takes=flac)
    run(first, second, 2)
    told = run(first, second, 3, ContentType("audio/x-flac"))
    assert told == expected(("second", range(3)))


def test_the_limits_of_a_stream_suit_both() -> None:
    one = Capabilities(lifetime=285.0, room=150.0, hold=120.0, tail=0.2, largest=8000)
    assert common(one, Capabilities()) == one
    assert common(Capabilities(), one) == Capabilities(lifetime=285.0, room=150.0, hold=120.0, tail=0.2)
    assert common(Capabilities(), Capabilities()).lifetime is None


# ---- leaving, and what the client is told ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_probes")
async def test_a_client_that_leaves_wakes_the_second() -> None:
    first, freed, begun = Service("first", fails()), threading.Event(), threading.Event()

    def stalls(_feed: Iterator[bytes]) -> Iterator[str]:
        begun.set()
        assert freed.wait(PATIENCE)
        return iter(())

    second = Engine("second", lambda _request: Upstream(stalls, freed.set, b"".join), settled=settled_by_final)
    upstream = streams(first.engine, ReconnectOptions(), second)(StreamRequest(RAW))
    async with Bridge(upstream.start, abort=upstream.abort, join=upstream.join) as bridge:
        await bridge.send(audio(1)[0])
        await until(begun.is_set)
        assert second.health.connections == 1
        bridge.cancel()
    assert freed.is_set()
    assert bridge.statistics().state == "finished"
    assert second.health.connections == 0


@pytest.mark.usefixtures("no_probes")
def test_one_that_leaves_while_it_is_held_back_opens_nothing_more() -> None:
    first, second = Service("first", fails()), Service("second", fails())
    run(first, Service("second", hears()), 1)
    upstream = streams(first.engine, ReconnectOptions(), second.engine)(StreamRequest(RAW))
    assert upstream.abort is not None
    upstream.abort()
    list(upstream.start(iter(audio(1))))
    assert not second.begun


@pytest.mark.parametrize("text", ["heard 3", "{}", "[1]", '{"no": "type"}', ""])
def test_what_is_no_message_of_ours_stays_as_it_is(text: str) -> None:
    assert with_engine(text, "second") == text


@pytest.mark.parametrize("text", [partial("so", "it").text, final("so", end_ts=2.0).text, '{"type": "x"} '])
def test_the_field_is_added_to_a_message(text: str) -> None:
    assert json.loads(with_engine(text, 'the "second"')) == {**json.loads(text), "engine": 'the "second"'}


def test_a_message_that_is_read_and_written_again_keeps_it() -> None:
    message = parse_message(with_engine(final("so", end_ts=2.0).text, "second"))
    assert isinstance(message, Final)
    assert message.engine == "second"
    assert parse_message(message.encode()) == message


@pytest.mark.usefixtures("no_probes")
def test_both_held_back_says_that_all_fails() -> None:
    first, second = Service("first", fails()), Service("second", fails())
    with pytest.raises(UpstreamClosed, match=FAILING):
        run(first, second, 1)
