"""What the service requires of every engine, as checks that an engine's author can run.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_engine_conforms(check):
        await check(subject)

`subject(behaviour)` is an async context manager that yields your engine, connected to a speech service with this
behaviour: a fake or the real one. A check raises AssertionError, whose text says what is wrong. `docs/engines.md` has
the list of checks.

The audio is 16 kHz mono S16LE. The speech service answers it as described in `Behaviour`. The text of a final is the
number of bytes that the service received on this connection, such as "32000 bytes"; its end is their duration.

The checks of the library (`syncbridge.testing`) examine single connections of the engine. The checks below examine
streams as the service opens them: close codes, times, resumption.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.fitted import fitted
from speechbridge.engines.reconnect import ReconnectOptions
from speechbridge.engines.streams import streams
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.messages import Final, Partial, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from syncbridge import Bridge, BridgeError
from syncbridge.testing import CHECKS as OF_THE_LIBRARY
from syncbridge.testing import Behaviour, Subject, from_now_on
from syncbridge.testing.streams import LIMITS, running, threads_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from speechbridge.engines import Engine, Upstream

    Opened = Callable[[Behaviour], AbstractAsyncContextManager[Engine]]

__all__ = ["CHECKS", "LOUD", "RATE", "Behaviour", "from_now_on"]

RATE = 32000  # bytes per second
LOUD = (b"\x00\x20" * 20 + b"\x00\xe0" * 20) * 400  # a second of a tone at 400 Hz, -12 dBFS
OPTIONS = ReconnectOptions(silence=0.5, answer=3.0)
OTHERS = ("_run", "fake", "AnyIO")  # threads that are no leaks: gRPC's for its channel, and those of the fake service


# ---- an engine's connections, for the library's checks ---------------------------------------------------------------


def _subject(engine: Engine) -> Subject[str]:
    open_stream = fitted(engine.open, engine.capabilities)
    settled_by = engine.settled

    def connect(position: int) -> Upstream:
        options = {"start_ts": position / RATE} if position else {}
        return open_stream(StreamRequest(ContentType.raw(), options))

    def settled(response: str, begun: int) -> int | None:
        end = settled_by(response, begun / RATE) if settled_by else None
        return None if end is None else round(end * RATE)

    def again(error: Exception) -> bool:
        """Tell whether the service retries after an error. An SDK's own errors end only streams without resumption."""
        return error.is_retryable if isinstance(error, UpstreamClosed) else settled_by is None

    return Subject(
        connect=connect,
        received=_received,
        again=again,
        settled=settled if settled_by else None,
        item=LOUD,
        unit=2,
        others=OTHERS,
    )


def _received(response: str) -> int | None:
    message = parse_message(response)
    if not isinstance(message, Final):
        return None
    number = message.text.partition(" ")[0]
    assert number.isdigit(), (
        f"a final of the fake has the text {message.text!r}: it must be the number of bytes it received: '32000 bytes'"
    )
    return int(number)


def _of_an_engine(check: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    @wraps(check)
    async def checked(subject: Opened) -> None:
        @asynccontextmanager
        async def opened(behaviour: Behaviour) -> AsyncIterator[Subject[str]]:
            async with subject(behaviour) as engine, engine.running():
                yield _subject(engine)
                assert engine.health.connections == 0, "a connection is still counted"

        await check(opened)

    return checked


# ---- streams as the service opens them -------------------------------------------------------------------------------


@asynccontextmanager
async def _stream(subject: Opened, behaviour: Behaviour, **options: float) -> AsyncIterator[Bridge[bytes, str]]:
    async with subject(behaviour) as engine, engine.running(), threads_back(OTHERS):
        upstream = streams(engine, OPTIONS)(StreamRequest(ContentType.raw(), options))
        bridge = Bridge(upstream.start, abort=upstream.abort, join=upstream.join, limits=LIMITS)
        async with running(bridge):
            yield bridge
        assert engine.health.connections == 0, "a connection is still counted"


async def _finals(bridge: Bridge[bytes, str]) -> list[Final]:
    found = [parse_message(message) async for message in bridge]
    return [message for message in found if isinstance(message, Final)]


async def _is_resumed(subject: Opened) -> bool:
    async with subject(Behaviour.ANSWERS) as engine:
        return engine.settled is not None


async def responses_are_messages(subject: Any) -> None:
    """A client of Rev.ai's protocol can read them: partials, and finals with their times."""
    async with _stream(subject, Behaviour.ANSWERS) as bridge:
        await bridge.send(LOUD)
        assert isinstance(parse_message(await anext(bridge)), Partial), "the first response is not a partial"
        bridge.end()
        ends = [round(final.end_ts, 2) for final in await _finals(bridge)]
    assert ends == [1.0], f"a second ends at {ends}"


async def messages_of_any_size(subject: Any) -> None:
    """All bytes arrive, whatever the sizes of messages. The service splits them to the engine's limit."""
    sizes = (1, 800, 801, 40_001, 300_000, 97)
    async with _stream(subject, Behaviour.ANSWERS) as bridge:
        for size in sizes:
            await bridge.send((LOUD * 10)[:size])
        bridge.end()
        texts = [final.text for final in await _finals(bridge)]
    assert texts == [f"{sum(sizes)} bytes"], "bytes were lost, or given twice"


async def a_refusal_closes_with_its_code(subject: Any) -> None:
    """A refusal raises UpstreamClosed, with a code after which clients do not retry."""
    async with _stream(subject, Behaviour.REFUSES) as bridge:
        with suppress(BridgeError):  # the refusal may come before the send
            await bridge.send(LOUD)
        try:
            await _finals(bridge)
        except UpstreamClosed as error:
            assert not error.is_retryable, "a refusal is retried"
            assert error.close.code != CloseCode.NORMAL, "a refusal has the close code of a success"
            return
        except BridgeError as error:
            raise AssertionError("a refusal must raise UpstreamClosed, with the client's close code") from error
        raise AssertionError("a refusal was reported as a success")


async def last_words_are_bounded(subject: Any) -> None:
    """Within the time limit for last words, the stream ends, or continues on another connection."""
    async with _stream(subject, Behaviour.MUTE_AFTER_THE_END) as bridge:
        await bridge.send(LOUD)
        bridge.end()
        with suppress(BridgeError, UpstreamClosed):
            await _finals(bridge)


async def times_count_from_start_ts(subject: Any) -> None:
    """An engine with `settled` adds the time at which its connection begins."""
    if not await _is_resumed(subject):
        return
    async with _stream(subject, Behaviour.ANSWERS, start_ts=100.0) as bridge:
        await bridge.send(LOUD)
        bridge.end()
        ends = [final.end_ts for final in await _finals(bridge)]
    assert [round(end, 2) for end in ends] == [101.0], f"a second from 100 s on ends at {ends}"


async def a_stream_survives_its_connection(subject: Any) -> None:
    """With `settled`, the next connection gets the audio that was not settled, and times continue."""
    if not await _is_resumed(subject):
        return
    for behaviour in (Behaviour.BREAKS, Behaviour.ENDS_EARLY, Behaviour.MUTE, Behaviour.MUTE_AFTER_THE_END):
        async with _stream(subject, behaviour, start_ts=100.0) as bridge:
            await bridge.send(LOUD)
            await bridge.send(LOUD)
            await asyncio.sleep(0.1)  # a connection, and its first message
            bridge.end()
            found = [(final.text, round(final.end_ts, 2)) for final in await _finals(bridge)]
        assert found == [("64000 bytes", 102.0)], f"{behaviour}: the finals of the second connection are {found}"


CHECKS: tuple[Callable[[Any], Coroutine[Any, Any, None]], ...] = (
    *map(_of_an_engine, OF_THE_LIBRARY),
    responses_are_messages,
    messages_of_any_size,
    a_refusal_closes_with_its_code,
    last_words_are_bounded,
    times_count_from_start_ts,
    a_stream_survives_its_connection,
)
"""All checks, each an async function of a subject. Those of resumption pass if there is no `settled`."""
