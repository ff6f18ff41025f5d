"""The suite that is shipped: an SDK that does everything right passes it, and each mistake is found by a check."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from syncbridge import Attempt, BridgeError
from syncbridge.testing import CHECKS, Behaviour, FakeSdk, Opened, Response, Subject, checks, fake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from typing import Any

    Adapter = Callable[[Iterator[bytes]], Iterator[Response]]
    Check = Callable[[Any], Coroutine[Any, Any, None]]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_fake_sdk_conforms(check: Check) -> None:
    await check(fake)


# ---- mistakes --------------------------------------------------------------------------------------------------------


def holds_back(start: Adapter) -> Adapter:
    return lambda feed: iter(list(start(feed)))


def loses_the_last_chunk(start: Adapter) -> Adapter:
    def all_but_one(feed: Iterator[bytes]) -> Iterator[bytes]:
        held = next(feed, None)
        for chunk in feed:
            if held is not None:
                yield held
            held = chunk

    return lambda feed: start(all_but_one(feed))


def gives_chunks_twice(start: Adapter) -> Adapter:
    return lambda feed: start(again for chunk in feed for again in (chunk, chunk))


def takes_a_break_for_an_end(start: Adapter) -> Adapter:
    def listen(feed: Iterator[bytes]) -> Iterator[Response]:
        try:
            yield from start(feed)
        except OSError:
            list(feed)

    return listen


def loses_its_last_response(start: Adapter) -> Adapter:
    return lambda feed: (response for response in start(feed) if not response.is_last)


def leaves_a_thread(start: Adapter) -> Adapter:
    def listen(feed: Iterator[bytes]) -> Iterator[Response]:
        threading.Thread(target=threading.Event().wait, args=[3.0], daemon=True).start()
        yield from start(feed)

    return listen


def takes_whole_samples_only(start: Adapter) -> Adapter:
    return lambda feed: start(chunk[: len(chunk) // 2 * 2] for chunk in feed)


@pytest.mark.parametrize(
    ("mistake", "check"),
    [
        (holds_back, checks.responses_come_while_input_is_sent),
        (loses_the_last_chunk, checks.stop),
        (loses_the_last_chunk, checks.a_broken_connection_is_replaced),
        (gives_chunks_twice, checks.chunks_of_any_size),
        (takes_whole_samples_only, checks.chunks_of_any_size),
        (takes_whole_samples_only, checks.a_rotation_loses_nothing),
        (loses_its_last_response, checks.a_slow_consumer),
        (takes_a_break_for_an_end, checks.an_error_is_raised_and_refuses_what_comes_later),
        (takes_a_break_for_an_end, checks.a_refusal_is_not_tried_again),
        (leaves_a_thread, checks.stop),
    ],
    ids=lambda given: given.__name__,
)
async def test_an_adapter_that_is_wrong_does_not_pass(
    mistake: Callable[[Adapter], Adapter], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncbridge.testing.streams.PATIENCE", 1.0)
    with pytest.raises((AssertionError, TimeoutError, BridgeError)):
        await check(through(mistake))


def through(adapter: Callable[[Adapter], Adapter], **changes: Any) -> Opened:
    @asynccontextmanager
    async def opened(behaviour: Behaviour) -> AsyncIterator[Subject[Response]]:
        async with fake(behaviour) as subject:
            right = subject.connect

            def connect(position: int) -> Attempt[bytes, Response]:
                attempt = right(position)
                return replace(attempt, start=adapter(attempt.start))  # type: ignore[arg-type] # an iterator it is

            yield replace(subject, connect=connect, **changes)

    return opened


def joins_samples(start: Adapter) -> Adapter:
    """Give an SDK that refuses half a sample whole ones; the half with which a connection ends is dropped."""

    def whole(feed: Iterator[bytes]) -> Iterator[bytes]:
        held = b""
        for chunk in feed:
            given = held + chunk
            yield given[: len(given) // 2 * 2]
            held = given[len(given) // 2 * 2 :]

    return lambda feed: start(whole(feed))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_an_adapter_of_an_sdk_that_takes_whole_samples_only_conforms(check: Check) -> None:
    await check(through(joins_samples, unit=2))


async def test_samples_that_are_lost_in_the_middle_are_found_whatever_the_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("syncbridge.testing.streams.PATIENCE", 3.0)
    with pytest.raises(AssertionError, match="bytes were lost"):
        await checks.a_rotation_loses_nothing(through(takes_whole_samples_only, unit=2))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"settled": lambda response, _begun: response.size}, checks.positions_count_from_where_a_connection_begins),
        ({"settled": lambda _response, _begun: None}, checks.positions_count_from_where_a_connection_begins),
        ({"again": lambda _error: True}, checks.a_refusal_is_not_tried_again),
        ({"again": lambda _error: False}, checks.an_error_is_raised_and_refuses_what_comes_later),
    ],
)
async def test_a_subject_that_tells_wrong_things_does_not_pass(changes: dict[str, Any], check: Check) -> None:
    @asynccontextmanager
    async def wrong(behaviour: Behaviour) -> AsyncIterator[Subject[Response]]:
        async with fake(behaviour) as subject:
            yield replace(subject, **changes)

    with pytest.raises(AssertionError):
        await check(wrong)


@pytest.mark.parametrize(
    "check",
    [checks.cancel_in_every_state, checks.a_blocked_send, checks.a_mute_service_after_the_end_is_given_up],
    ids=lambda check: check.__name__,
)
async def test_one_that_nothing_wakes_does_not_pass(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncbridge.testing.streams.PATIENCE", 1.0)
    opened: list[Any] = []

    @asynccontextmanager
    async def deaf(behaviour: Behaviour) -> AsyncIterator[Subject[Response]]:
        async with fake(behaviour) as subject:
            sdk = FakeSdk(behaviour)

            def connect(_position: int) -> Attempt[bytes, Response]:
                opened.append(sdk.connect())
                return Attempt(opened[-1].stream, lambda: None, b"".join)

            yield replace(subject, connect=connect)

    try:
        with pytest.raises((AssertionError, TimeoutError)):
            await check(deaf)
    finally:
        for connection in opened:
            connection.close()


async def test_an_adapter_whose_streams_are_not_resumed_passes_the_others() -> None:
    @asynccontextmanager
    async def plain(behaviour: Behaviour) -> AsyncIterator[Subject[Response]]:
        async with fake(behaviour) as subject:
            yield replace(subject, settled=None)

    for check in (checks.stop, checks.a_rotation_loses_nothing, checks.a_broken_connection_is_replaced):
        await check(plain)
