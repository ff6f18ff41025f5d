"""What the service relies on with any engine, as checks that an engine's author can run.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_my_engine_conforms(check):
        await check(subject)

`subject(behaviour)` is an async context manager that yields your engine before a service that behaves so: a fake of it,
or the real one. A check raises AssertionError, whose text says what is wrong. `docs/engines.md` has the list.

Audio is 16 kHz mono S16LE. The service answers it as `Behaviour` says; a final's text is the number of bytes that the
service was given on this connection, as "32000 bytes", and its end is their duration.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager, suppress
from enum import StrEnum, auto
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.reconnect import ReconnectOptions
from speechbridge.engines.streams import streams
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from syncbridge import Bridge, BridgeError, Early, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from speechbridge.engines import Engine

RATE = 32000  # bytes a second
LOUD = (b"\x00\x20" * 20 + b"\x00\xe0" * 20) * 400  # a second of a tone at 400 Hz, -12 dBFS
PATIENCE = 20.0  # seconds; nothing waits this long unless it is broken
GRACE = 2.0  # seconds for an SDK to stop once it is aborted; a service gives 1


class Behaviour(StrEnum):
    """What the service does on the first connection. On all later ones it ANSWERS."""

    ANSWERS = auto()  # a partial for the first message; once the input has ended, a final for all of it, and a good end
    MUTE = auto()  # accepts, takes audio, and says nothing
    MUTE_AFTER_A_PARTIAL = auto()
    MUTE_AFTER_THE_END = auto()  # takes everything up to the end of the input, then says nothing, and does not end
    DEAF = auto()  # accepts, and takes no audio
    ENDS_EARLY = auto()  # a good end after the first message, though the input has not ended
    BREAKS = auto()  # an error that may pass, after the first message
    REFUSES = auto()  # an error that will not pass, on every connection


@asynccontextmanager
async def _stream(
    subject: Callable[[Behaviour], AbstractAsyncContextManager[Engine]],
    behaviour: Behaviour,
    limits: Limits | None = None,
    *,
    is_whole: bool = False,
    **options: float,
) -> AsyncIterator[Bridge[bytes, str]]:
    """Open a stream of one connection, or a whole one. Checks that it leaves no thread behind."""
    async with subject(behaviour) as engine, engine.running():
        before = set(threading.enumerate())
        request = StreamRequest(ContentType.raw(), options)
        open_stream = streams(engine, ReconnectOptions(silence=0.5, answer=3.0)) if is_whole else engine.open
        upstream = open_stream(request)
        limits = limits or Limits(grace=GRACE)
        bridge = Bridge(upstream.start, abort=upstream.abort, join=upstream.join, limits=limits)
        async with asyncio.timeout(PATIENCE), bridge:
            yield bridge
        assert bridge.statistics().state != "abandoned", "its thread does not stop when it is aborted"
        await asyncio.to_thread(_join, before)


def _join(before: set[threading.Thread]) -> None:
    """Wait for the threads that are new, but for those that gRPC keeps for its channel."""
    deadline = time.monotonic() + GRACE
    mine = [thread for thread in set(threading.enumerate()) - before if _is_the_engines(thread)]
    for thread in mine:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in mine if thread.is_alive()]
    assert not left, f"threads are left: {left}"


def _is_the_engines(thread: threading.Thread) -> bool:
    others = ("_run", "asyncio_", "syncbridge-timer", "fake", "AnyIO")
    return thread is not threading.current_thread() and not any(other in thread.name for other in others)


async def _send(bridge: Bridge[bytes, str], *chunks: bytes) -> None:
    for chunk in chunks:
        await bridge.send(chunk)


async def _finals(bridge: Bridge[bytes, str]) -> list[Final]:
    found = [parse_message(message) async for message in bridge]
    return [message for message in found if isinstance(message, Final)]


def _bytes(finals: list[Final]) -> list[str]:
    return [final.text for final in finals]


# ---- the checks ------------------------------------------------------------------------------------------------------


async def stop(subject: Any) -> None:
    """After the end of the input come the last words, and a good end."""
    async with _stream(subject, Behaviour.ANSWERS) as bridge:
        await _send(bridge, LOUD, LOUD)
        bridge.end()
        assert _bytes(await _finals(bridge)) == ["64000 bytes"], "it lost input, or its last words"


async def answers_come_while_audio_is_sent(subject: Any) -> None:
    """A response is not held back until there are more, or the input ends."""
    async with _stream(subject, Behaviour.ANSWERS) as bridge:
        await bridge.send(LOUD)
        assert json.loads(await anext(bridge))["type"] == "partial", "the first response is no partial"
        bridge.end()
        await _finals(bridge)


async def messages_of_any_size(subject: Any) -> None:
    """Whatever the sizes of messages are, all bytes arrive. An engine's own limit is kept before it."""
    sizes = (1, 800, 801, 40_001, 300_000, 97)
    async with _stream(subject, Behaviour.ANSWERS, is_whole=True) as bridge:
        await _send(bridge, *((LOUD * 10)[:size] for size in sizes))
        bridge.end()
        assert _bytes(await _finals(bridge)) == [f"{sum(sizes)} bytes"], "bytes were lost, or given twice"


async def a_slow_consumer(subject: Any) -> None:
    """One that reads late gets everything."""
    limits = Limits(outbound=1, grace=GRACE)
    async with _stream(subject, Behaviour.ANSWERS, limits, is_whole=True) as bridge:
        await bridge.send(LOUD)
        bridge.end()
        await asyncio.sleep(0.3)  # longer than it takes
        assert _bytes(await _finals(bridge)) == [f"{len(LOUD)} bytes"], "a response was lost"


async def cancel_in_every_state(subject: Any) -> None:
    """Its thread is back within the grace, wherever it waits."""
    for behaviour, is_ended in (
        (Behaviour.ANSWERS, False),
        (Behaviour.MUTE, False),
        (Behaviour.MUTE_AFTER_A_PARTIAL, False),
        (Behaviour.MUTE_AFTER_THE_END, True),
        (Behaviour.DEAF, False),
    ):
        for chunks in (0, 1, 40):
            async with _stream(subject, behaviour) as bridge:
                with suppress(TimeoutError):  # it may take no more
                    async with asyncio.timeout(0.2):
                        await _send(bridge, *[LOUD] * chunks)
                if is_ended:
                    bridge.end()
                bridge.cancel()


async def an_early_end_is_no_success(subject: Any) -> None:
    """The reader is told that input was not heard."""
    async with _stream(subject, Behaviour.ENDS_EARLY) as bridge:
        try:
            await bridge.send(LOUD)
            await _finals(bridge)
        except (Early, UpstreamClosed):
            return
        raise AssertionError("an end before the end of the input was taken for a success")


async def an_error_is_raised_and_refuses_what_comes_later(subject: Any) -> None:
    """An error of the SDK's reaches the reader, and the sender learns of it."""
    async with _stream(subject, Behaviour.BREAKS) as bridge:
        await bridge.send(LOUD)
        try:
            await _finals(bridge)
        except BridgeError:
            raise
        except Exception as error:  # noqa: BLE001 # whatever the SDK raises
            assert not isinstance(error, UpstreamClosed) or error.is_retryable, "what may pass is not tried again"
        else:
            raise AssertionError("a broken connection was taken for a success")
        try:
            await bridge.send(LOUD)
        except BridgeError:
            return
        raise AssertionError("what nobody hears was taken")


async def a_refusal_is_not_tried_again(subject: Any) -> None:
    """It is raised as UpstreamClosed with a code that says so."""
    async with _stream(subject, Behaviour.REFUSES, is_whole=True) as bridge:
        with suppress(BridgeError):  # it may have been refused by now
            await bridge.send(LOUD)
        try:
            await _finals(bridge)
        except UpstreamClosed as error:
            assert not error.is_retryable, "a refusal is tried again"
            return
        except BridgeError as error:
            raise AssertionError("a refusal is raised as UpstreamClosed, with the client's close code") from error
        raise AssertionError("a refusal was taken for a success")


async def a_mute_service_after_the_end_is_given_up(subject: Any) -> None:
    """Within the bound on last words the stream is over, or goes on with another connection."""
    async with _stream(subject, Behaviour.MUTE_AFTER_THE_END, is_whole=True) as bridge:
        await bridge.send(LOUD)
        bridge.end()
        with suppress(BridgeError, UpstreamClosed):
            await _finals(bridge)


async def times_count_from_start_ts(subject: Any) -> None:
    """An engine with `settled` adds where its connection begins."""
    async with subject(Behaviour.ANSWERS) as engine:
        if engine.settled is None:
            return
    async with _stream(subject, Behaviour.ANSWERS, start_ts=100.0) as bridge:
        await bridge.send(LOUD)
        bridge.end()
        ends = [final.end_ts for final in await _finals(bridge)]
    assert [round(end, 2) for end in ends] == [101.0], f"a second from 100 s on ends at {ends}"


async def a_broken_connection_is_replaced(subject: Any) -> None:
    """An engine with `settled` gives what was not settled to the next connection."""
    async with subject(Behaviour.ANSWERS) as engine:
        if engine.settled is None:
            return
    for behaviour in (Behaviour.BREAKS, Behaviour.ENDS_EARLY, Behaviour.MUTE, Behaviour.MUTE_AFTER_THE_END):
        async with _stream(subject, behaviour, is_whole=True) as bridge:
            await _send(bridge, LOUD, LOUD)
            await asyncio.sleep(0.1)  # a connection, and its first message
            bridge.end()
            heard = _bytes(await _finals(bridge))
        assert heard == ["64000 bytes"], f"{behaviour}: the second connection was given {heard}"


CHECKS = (
    stop,
    answers_come_while_audio_is_sent,
    messages_of_any_size,
    a_slow_consumer,
    cancel_in_every_state,
    an_early_end_is_no_success,
    an_error_is_raised_and_refuses_what_comes_later,
    a_refusal_is_not_tried_again,
    a_mute_service_after_the_end_is_given_up,
    times_count_from_start_ts,
    a_broken_connection_is_replaced,
)
"""All of them, each an async function of a subject."""
