"""Any callable as an engine."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import UpstreamClosed, reconnect
from speechbridge.engines.calls import plain
from speechbridge.engines.function import function_engine
from speechbridge.engines.reconnect import ReconnectOptions
from speechbridge.engines.streams import streams
from speechbridge.protocol.request import ContentType, StreamRequest
from syncbridge import Bridge, WrongStart
from tests.helpers.engines import example
from tests.helpers.puppet import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = StreamRequest(ContentType.raw())


def one(audio: Iterator[bytes]) -> Iterator[str]:
    yield from (str(chunk) for chunk in audio)


def one_with_default(audio: Iterator[bytes], language: str = "en") -> Iterator[str]:
    yield f"{language} {list(audio)}"


def two(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    yield f"{request.content_type.rate} {list(audio)}"


class Client:
    def start(self, audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
        yield from two(audio, request)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (one, "b'a'"),
        (one_with_default, "en [b'a']"),
        (two, "16000 [b'a']"),
        (Client().start, "16000 [b'a']"),
        (map, None),
    ],
)
def test_the_signature_decides_whether_the_request_is_passed(start: object, said: str | None) -> None:
    upstream = plain(start)(REQUEST)  # type: ignore[arg-type] # one of them is no such thing, on purpose
    if said is not None:
        assert list(upstream.start(iter([b"a"]))) == [said]


def test_chunks_stay_as_they_were_sent_however_many_wait() -> None:
    assert plain(one)(REQUEST).join is None


@pytest.mark.parametrize("response", [{"text": "hello"}, b"hello", None])
def test_a_response_that_is_no_message_is_named_at_the_first(response: object) -> None:
    upstream = plain(lambda _audio: iter([response]))(REQUEST)  # type: ignore[arg-type, return-value] # the mistake
    with pytest.raises(WrongStart, match="must be a str"):
        list(upstream.start(iter([])))


# ---- abort -----------------------------------------------------------------------------------------------------------


class Responses:
    """What an SDK returns: it waits until one of its methods is called."""

    def __init__(self) -> None:
        self.called = ""
        self._woken = threading.Event()

    def __iter__(self) -> Iterator[str]:
        assert self._woken.wait(PATIENCE)
        yield from ()

    def _wake(self, name: str) -> None:
        self.called = name
        self._woken.set()


class Named(Responses):
    def hang_up(self) -> None:
        self._wake("hang_up")

    def close(self) -> None: ...


class Cancels(Responses):
    def cancel(self) -> None:
        self._wake("cancel")

    def close(self) -> None: ...


class Closes(Responses):
    def close(self) -> None:
        self._wake("close")


@pytest.mark.parametrize(("kind", "name"), [(Named, "hang_up"), (Cancels, "cancel"), (Closes, "close")])
async def test_an_abort_calls_the_method_that_is_named_or_the_one_that_is_there(
    kind: type[Responses], name: str
) -> None:
    made: list[Responses] = []

    def start(_audio: Iterator[bytes]) -> Responses:
        made.append(kind())
        return made[0]

    if kind is Named:
        start.abort = "hang_up"  # type: ignore[attr-defined] # a function may have attributes
    upstream = streams(function_engine(start), ReconnectOptions())(REQUEST)
    async with Bridge(upstream.start, abort=upstream.abort) as bridge:
        await until(lambda: made)
        bridge.cancel()
    assert made[0].called == name
    assert bridge.statistics().state == "finished"


def test_an_abort_while_it_connects_is_made_up_for() -> None:
    made = Closes()

    def start(_audio: Iterator[bytes]) -> Responses:
        assert upstream.abort is not None
        upstream.abort()
        return made

    upstream = plain(start)(REQUEST)
    assert list(upstream.start(iter([]))) == []
    assert made.called == "close"


def test_a_generator_that_runs_is_left_alone_by_an_abort() -> None:
    def start(audio: Iterator[bytes]) -> Iterator[str]:
        assert upstream.abort is not None
        upstream.abort()  # its own close would raise here
        yield from (str(len(chunk)) for chunk in audio)

    upstream = plain(start)(REQUEST)
    assert list(upstream.start(iter([b"abc"]))) == ["3"]


# ---- settled ---------------------------------------------------------------------------------------------------------


class Disconnected(Exception):
    """The vendor's own error."""


@dataclass
class Result:
    text: str
    end: float  # seconds of the connection
    is_final: bool = True

    @property
    def start(self) -> float:
        return self.end - 1.0


class Connection:
    """A vendor's: it says a word a second, and breaks after each third."""

    error: type[Exception] = Disconnected

    def __init__(self, rate: int) -> None:
        self._second = 2 * rate
        self.given = b""
        self.closed = False

    def stream(self, audio: Iterator[bytes]) -> Iterator[Result]:
        said = 0
        for chunk in audio:
            self.given += chunk
            while len(self.given) >= (said + 1) * self._second:
                word = self.given[said * self._second]
                said += 1
                yield Result(str(word), float(said))
                if said == 3:
                    raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Have a module `vendor`; return the connections that are made with it."""
    made: list[Connection] = []

    def connect(rate: int) -> Connection:
        made.append(Connection(rate))
        return made[-1]

    module = SimpleNamespace(connect=connect, Disconnected=Disconnected, Denied=type("Denied", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "vendor", module)
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    return made


SECONDS = [bytes([number]) * 32000 for number in range(1, 9)]
HEARD = [(str(number), float(number)) for number in range(1, 9)]


def heard(responses: list[str]) -> list[tuple[str, float]]:
    messages = map(json.loads, responses)
    return [(message["elements"][0]["value"], message["end_ts"]) for message in messages]


@pytest.mark.parametrize("error", [Disconnected, ConnectionResetError])
def test_the_class_of_the_docs_survives_its_connections(
    vendor: list[Connection], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "error", error)
    names: dict[str, Any] = {}
    exec(example("Any start function"), names)  # noqa: S102 # our own page
    engine = function_engine(names["Stream"])
    assert engine.capabilities.lifetime == 285.0
    assert heard(list(streams(engine, ReconnectOptions())(REQUEST).start(iter(SECONDS)))) == HEARD
    assert len(vendor) == 3
    assert len(example("Any start function").strip().splitlines()) <= 30


def test_the_class_of_the_docs_is_aborted_by_its_method(vendor: list[Connection]) -> None:
    names: dict[str, Any] = {}
    exec(example("Any start function"), names)  # noqa: S102 # our own page
    upstream = function_engine(names["Stream"]).open(REQUEST)
    assert next(iter(upstream.start(iter(SECONDS))))
    assert upstream.abort is not None
    upstream.abort()
    assert vendor[0].closed


def test_the_engine_of_the_docs_is_one(vendor: list[Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "error", sys.modules["vendor"].Denied)
    names: dict[str, Any] = {}
    exec(example("An engine of your own"), names)  # noqa: S102 # our own page
    engine = names["factory"]()
    with pytest.raises(UpstreamClosed) as refused:
        list(streams(engine, ReconnectOptions())(REQUEST).start(iter(SECONDS)))
    assert refused.value.close.code == 4001
    assert len(vendor) == 1


def test_without_settled_its_own_error_ends_the_stream() -> None:
    def breaks(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        list(streams(function_engine(breaks), ReconnectOptions())(REQUEST).start(iter(SECONDS)))


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("settled", "end_ts", "`settled` must be a function"),
        ("lifetime", "5 min", "`lifetime` must be a positive number of seconds"),
        ("lifetime", 0, "`lifetime` must be a positive number of seconds"),
        ("breaks", OSError, "`breaks` must be a tuple of exceptions"),
        ("breaks", ("OSError",), "`breaks` must be a tuple of exceptions"),
    ],
)
def test_an_attribute_that_is_wrong_is_named(name: str, value: object, said: str) -> None:
    def start(audio: Iterator[bytes]) -> Iterator[str]:
        yield from ()

    setattr(start, name, value)
    with pytest.raises(ValueError, match=said):
        function_engine(start)


def test_a_method_that_is_not_there_is_named() -> None:
    def start(audio: Iterator[bytes]) -> Iterator[str]:
        yield from ()

    start.abort = "hang_up"  # type: ignore[attr-defined] # a function may have attributes
    with pytest.raises(WrongStart, match="`abort` names 'hang_up', and a generator has no such method"):
        list(plain(start)(REQUEST).start(iter([])))


def test_a_settled_that_returns_no_seconds_is_named() -> None:
    def start(audio: Iterator[bytes]) -> Iterator[str]:
        yield from (str(len(chunk)) for chunk in audio)

    start.settled = lambda response, _begun: response  # type: ignore[attr-defined] # a function may have attributes
    with pytest.raises(WrongStart, match="`settled` returned a str: it must return seconds, or None"):
        list(streams(function_engine(start), ReconnectOptions())(REQUEST).start(iter(SECONDS)))
