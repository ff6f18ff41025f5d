"""Functions of anybody's between the SDK and the client: what they may return, and what if they fail."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.logs import add_session
from speechbridge.protocol.messages import kind_of
from speechbridge.protocol.request import PATH
from speechbridge.server.processors import MOST, Processors
from speechbridge.settings import WrongSetting
from speechbridge.testing.script import final
from tests.helpers.puppet import until
from tests.helpers.service import PATIENCE, STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

HERE = "tests.server.processors.test_processors"


def shout(message: str) -> str:
    return message.upper()


async def whisper(message: str) -> str:
    await asyncio.sleep(0)
    return message.lower()


def drop(message: str) -> None:
    """Drop everything."""


def twice(message: str) -> Iterator[str]:
    yield from (message, message)


def breaks(message: str) -> str:
    raise ValueError(f"cannot read {message}")


class Made:
    """A class: its instance is the processor."""

    def __call__(self, message: str) -> str:
        return f"<{message}>"


class AsyncMade:
    async def __call__(self, message: str) -> list[str]:
        return [message, "async"]


class Unmade:
    def __init__(self) -> None:
        raise RuntimeError("no licence")

    def __call__(self, message: str) -> str:
        return message


async def generates(message: str) -> AsyncIterator[str]:
    yield message


def takes_two(message: str, other: str) -> str:
    return message + other


class Required:
    required = True

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function

    def __call__(self, message: str) -> Any:
        return self._function(message)


async def process(*functions: Callable[[str], Any], message: str = "Word") -> list[str]:
    processors = Processors([(str(number), f) for number, f in enumerate(functions)], seconds=PATIENCE, threads=2)
    try:
        return await processors.begin()(message)
    finally:
        processors.close()


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ([shout], ["WORD"]),
        ([whisper], ["word"]),
        ([drop, shout], []),
        ([twice, shout, twice], ["WORD"] * 4),
        ([AsyncMade(), shout], ["WORD", "ASYNC"]),
        ([lambda _message: ("a", "b")], ["a", "b"]),
    ],
)
async def test_a_response_is_changed_dropped_or_multiplied(
    functions: list[Callable[[str], Any]], expected: list[str]
) -> None:
    assert await process(*functions) == expected


def endless(message: str) -> Iterator[str]:
    while True:
        yield message


def stops(message: str) -> str:
    raise StopIteration


def exits(message: str) -> str:
    sys.exit(message)


@pytest.mark.parametrize(
    "function", [breaks, endless, stops, exits, lambda _: 5, lambda _: [1], lambda _: ["x"] * 101, lambda _: "\ud83d"]
)
async def test_one_that_fails_is_skipped_unless_it_is_required(function: Callable[[str], Any]) -> None:
    assert MOST == 100

    async def later(message: str) -> Any:
        raise TimeoutError  # its own, and not that it was slow

    assert await process(function, later, shout) == ["WORD"]
    assert await process(shout, Required(function)) == []


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
async def test_an_async_one_that_cancels_or_exits_takes_neither_its_session_nor_the_service_with_it(
    error: type[BaseException],
) -> None:
    async def leaves(message: str) -> str:
        raise error

    assert await process(leaves, shout) == ["WORD"]


async def test_the_cancellation_of_a_session_is_not_taken_for_a_failure_of_its_processor() -> None:
    begun = asyncio.Event()

    async def waits(message: str) -> str:
        begun.set()
        await asyncio.Event().wait()
        return message

    processing = asyncio.create_task(process(waits))
    await begun.wait()
    processing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await processing


async def test_a_failure_is_counted_each_time_and_logged_once_without_what_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    processors = Processors([("broken", breaks), ("vital", Required(breaks))], seconds=PATIENCE, threads=1)
    processing = processors.begin()
    for _ in range(3):
        assert await processing("4111 1111 1111 1111") == []
    processors.close()
    broken, vital = processors.statistics()
    assert (broken.raised, broken.slow, broken.withheld) == (3, 0, 0)
    assert (vital.raised, vital.slow, vital.withheld) == (3, 0, 3)
    place = f"ValueError at test_processors.py:{breaks.__code__.co_firstlineno + 1}"
    consequences = [("broken", "the response goes on without it"), ("vital", "the response is dropped")]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [
        f"the processor {name} raised {place}: {consequence}; logged once a session"
        for name, consequence in consequences
    ]
    assert "4111" not in caplog.text


async def test_one_that_does_not_come_back_is_not_asked_again_until_it_does() -> None:
    asked: list[str] = []
    release = threading.Event()

    def hangs(message: str) -> str:
        asked.append(message)
        release.wait(PATIENCE)
        return "late"

    processors = Processors([("hangs", hangs), ("shout", shout)], seconds=0.05, threads=2)
    processing = processors.begin()
    assert await processing("one") == ["ONE"]
    assert await processing("two") == ["TWO"]
    assert asked == ["one"]
    assert processors.lanes.pool.active == 2
    release.set()
    await until(processing._overdue[processors.steps[0]].done)
    assert await processing("three") == ["LATE"]
    processors.close()
    assert processors.statistics()[0].slow == 2


async def test_an_async_one_that_is_too_slow_is_cancelled() -> None:
    cancelled = False

    async def slow(message: str) -> str:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        finally:
            cancelled = True
        return message

    processors = Processors([("slow", slow)], seconds=0.01, threads=1)
    assert await processors.begin()("word") == ["word"]
    assert cancelled
    assert processors.statistics()[0].slow == 1


async def test_sessions_do_not_wait_for_each_others_and_threads_are_bounded() -> None:
    release = threading.Event()

    def hangs(message: str) -> str:
        release.wait(PATIENCE)
        return message

    processors = Processors([("hangs", hangs)], seconds=0.05, threads=3)
    for _ in range(3):
        assert await processors.begin()("word") == ["word"]
    processors.seconds = PATIENCE  # the fourth is not kept waiting all the same
    assert await processors.begin()("word") == ["word"]
    assert processors.lanes.pool.active == 3
    processors.close()
    release.set()


async def test_calls_use_one_thread_while_all_is_well_and_see_their_sessions_id() -> None:
    threads: set[str] = set()

    def note(message: str) -> str:
        threads.add(f"{threading.current_thread().ident}")
        record = logging.makeLogRecord({})
        add_session(record)
        return str(getattr(record, "session", None))

    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        for _ in audio:
            yield "word"

    async with service(sdk) as server:
        sessions = server.sessions
        sessions.processors = Processors([("note", note)], seconds=PATIENCE, threads=9)
        async with client(server, STREAM) as socket:
            connected = str(await socket.recv())
            for _ in range(20):
                await socket.send(b"x")
                said = await socket.recv()
            await socket.send("EOS")
            await ending(socket)
        sessions.processors.close()
    assert str(said) in connected
    assert len(threads) == 1


async def test_it_is_set_by_names_in_their_order() -> None:
    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield "Word"

    names = f"{HERE}:shout, {HERE}:Made,{HERE}:twice"
    async with service(sdk, processors=names) as server, client(server) as socket:
        await socket.send("EOS")
        messages, _ = await ending(socket)
    assert messages == ["<WORD>", "<WORD>"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "'nowhere' is not of the form package.module:callable"),
        ("no.such.module:f", "'no.such.module:f' cannot be imported"),
        (f"{HERE}:nothing", "cannot be imported: .*nothing"),
        (f"{HERE}:MOST", "is not callable"),
        (f"{HERE}:takes_two", "does not take one message"),
        (f"{HERE}:generates", "is an async generator: return a list"),
        (f"{HERE}:Unmade", "cannot be instantiated: no licence"),
        (f"{HERE}:shout,{HERE}:gone", f"'{HERE}:gone' cannot be imported"),
        ("speechbridge.server.processors.keywords:Alerts", "SPEECHBRIDGE_KEYWORDS is empty"),
    ],
)
async def test_a_wrong_one_is_refused_at_start_with_its_name_and_the_reason(name: str, said: str) -> None:
    with pytest.raises(WrongSetting, match=f"^SPEECHBRIDGE_PROCESSORS: .*{said}"):
        async with service(processors=name):
            pass


async def test_finals_that_were_made_or_dropped_keep_their_count_on_a_resumed_stream() -> None:
    """They are numbered after they are processed: what the client counts is what it gets."""

    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        list(audio)
        yield from (final("one").text, final("dropped").text, final("two").text)

    def edit(message: str) -> list[str]:
        if "dropped" in message:
            return ['{"type": "alert", "about": "final"}']  # no final, though it holds the word
        return [message, message.replace("one", "more")] if "one" in message else [message]

    async with service(sdk) as server:
        processors = Processors([("edit", edit)], seconds=PATIENCE, threads=1)
        server.app.state.sessions.processors = processors
        async with client(server, STREAM + "&resume=true") as socket:
            key = json.loads(await socket.recv())["resume"]
            await socket.send("EOS")
            while "more" not in str(await socket.recv()):
                pass
        async with client(server, f"{PATH}?resume={key}&finals=2") as socket:
            messages, close = await ending(socket)
        processors.close()
    assert [message for message in messages if kind_of(str(message)) == "final"] == [final("two").text]
    assert close.code == 1000
