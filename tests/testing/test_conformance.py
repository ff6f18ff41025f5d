"""The same checks for all engines: one in the same process, a start function, the one of the docs, and Rev.ai's SDK.

Google's and Riva's pass them in tests/engines/test_grpc_conformance.py, where their SDKs are installed.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import Engine, Upstream, UpstreamClosed, reconnect
from speechbridge.engines.function import function_engine
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.engines.rev import RevEngine, rev_engine
from speechbridge.protocol.close import Close
from speechbridge.protocol.messages import Element, Final, Partial, parse_message
from speechbridge.recognizer.server import serving
from speechbridge.testing.conformance import CHECKS, RATE, Behaviour
from speechbridge.testing.function import scripted_engine
from speechbridge.testing.script import Scripted
from syncbridge.testing import FakeSdk
from tests.helpers.behaviours import scripts
from tests.helpers.engines import example
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from speechbridge.protocol.request import StreamRequest

pytestmark = pytest.mark.slow

EACH = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))


def final(total: int, begin: float = 0.0) -> str:
    return Final(begin, begin + total / RATE, (Element(f"{total} bytes"),)).encode()


def partial(begin: float = 0.0) -> str:
    return f'{{"type": "partial", "ts": {begin}, "end_ts": {begin}, "elements": []}}'


# ---- a function ------------------------------------------------------------------------------------------------------


class Script:
    """The library's fake SDK, with messages of ours."""

    def __init__(self, sdk: FakeSdk) -> None:
        self._connection = sdk.connect()
        self.close = self._connection.close

    def stream(self, audio: Iterator[bytes], begin: float) -> Iterator[str]:
        """Raise ConnectionError, or PermissionError for a refusal."""
        for response in self._connection.stream(audio):
            yield final(response.size, begin) if response.is_last else partial(begin)


@asynccontextmanager
async def an_engine(behaviour: Behaviour) -> AsyncIterator[Engine]:
    sdk = FakeSdk(behaviour)

    def open_stream(request: StreamRequest) -> Upstream:
        script = Script(sdk)

        def start(audio: Iterator[bytes]) -> Iterator[str]:
            try:
                yield from script.stream(audio, float(request.options.get("start_ts", 0.0)))
            except PermissionError:
                raise UpstreamClosed(Close(4001)) from None
            except ConnectionError:
                raise UpstreamClosed(Close(1006)) from None

        return Upstream(start, script.close, b"".join)

    yield Engine("scripted", open_stream, settled=settled_by_final)


@EACH
async def test_an_engine_in_the_same_process_conforms(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await check(an_engine)


# ---- the scripted engine ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def the_scripted_engine(behaviour: Behaviour) -> AsyncIterator[Engine]:
    yield scripted_engine(*scripts(behaviour))


@EACH
async def test_the_scripted_engine_conforms(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await check(the_scripted_engine)


# ---- a start function ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_function(behaviour: Behaviour) -> AsyncIterator[Engine]:
    sdk = FakeSdk(behaviour)

    class Stream:
        settled = staticmethod(settled_by_final)

        def __init__(self, audio: Iterator[bytes], request: StreamRequest) -> None:
            self._script = Script(sdk)
            self._audio = audio
            self._begin = float(request.options.get("start_ts", 0.0))

        def __iter__(self) -> Iterator[str]:
            try:
                yield from self._script.stream(self._audio, self._begin)
            except PermissionError:
                raise UpstreamClosed(Close(4001)) from None

        def abort(self) -> None:
            self._script.close()

    yield function_engine(Stream)


@EACH
async def test_a_start_function_conforms(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await check(a_function)


# ---- the engine of the docs ------------------------------------------------------------------------------------------


class Denied(Exception): ...


class Disconnected(Exception): ...


@asynccontextmanager
async def the_one_of_the_docs(behaviour: Behaviour) -> AsyncIterator[Engine]:
    sdk = FakeSdk(behaviour)

    class Connection:
        def __init__(self) -> None:
            self._script = Script(sdk)
            self.close = self._script.close

        def stream(self, audio: Iterator[bytes]) -> Iterator[SimpleNamespace]:
            try:
                for text in self._script.stream(audio, 0.0):
                    message = parse_message(text)
                    assert isinstance(message, Partial | Final)
                    end, is_final = message.end_ts, isinstance(message, Final)
                    yield SimpleNamespace(text=message.text, start=0.0, end=end, is_final=is_final)
            except PermissionError:
                raise Denied from None
            except ConnectionError:
                raise Disconnected from None

    vendor = SimpleNamespace(connect=lambda rate: Connection(), Denied=Denied, Disconnected=Disconnected)  # noqa: ARG005
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "vendor", vendor)
        exec(example("An engine of your own"), names)  # noqa: S102 # our own page
        yield names["factory"]()


@EACH
async def test_the_engine_of_the_docs_conforms(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    assert len(example("An engine of your own").splitlines()) < 60
    await check(the_one_of_the_docs)


@EACH
async def test_the_suite_of_the_docs_is_one(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    behaviours: list[Behaviour] = []

    @contextmanager
    def serving(behaviour: Behaviour) -> Iterator[None]:
        behaviours.append(behaviour)
        yield

    def factory() -> Engine:
        return scripted_engine(*scripts(behaviours[-1]))

    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "my_fake", SimpleNamespace(serving=serving))
        patch.setitem(sys.modules, "my_package", SimpleNamespace(factory=factory))
        exec(example("An engine of your own", 1), names)  # noqa: S102 # our own page
    await names["test_my_engine_conforms"](check)


# ---- Rev.ai's SDK ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def revs_sdk(behaviour: Behaviour) -> AsyncIterator[Engine]:
    async with serving(Scripted(*scripts(behaviour)), handshake_timeout=None) as server:
        yield rev_engine("revai", RevEngine(lambda: server.url, secret()))


@EACH
async def test_revs_sdk_conforms(check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    await check(revs_sdk)


@pytest.mark.anyio
async def test_a_fake_whose_finals_count_no_bytes_is_told_what_to_say() -> None:
    def hello(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            pass
        yield Final(0.0, 0.1, (Element("Hello"),)).encode()

    @asynccontextmanager
    async def subject(_behaviour: Behaviour) -> AsyncIterator[Engine]:
        yield function_engine(hello)

    with pytest.raises(
        AssertionError, match="has the text 'Hello': it must be the number of bytes it received: '32000 bytes'"
    ):
        await CHECKS[0](subject)
