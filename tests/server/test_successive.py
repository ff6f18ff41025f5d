"""Sessions one after another on one connection: what a flush does, and every way for the connection to end."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from speechbridge.engines import Upstream, UpstreamClosed
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.server import successive, verdicts
from speechbridge.server.session import Sessions
from speechbridge.server.successive import FLUSH, ReadAhead, bytes_per_second, run_successively
from speechbridge.settings import SessionSettings
from tests.helpers.peer import Peer
from tests.helpers.puppet import PATIENCE, Puppet, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECOND = bytes(32000)
COMPLETED = Close(1000, END_OF_INPUT)


class Flushable(ReadAhead):
    """A client whose messages are those of sessions, and FLUSH."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.peer = peer
        self.flushes = 0
        self.starts: list[float] = []

    def request(self, start_ts: float) -> StreamRequest:
        self.starts.append(start_ts)
        return StreamRequest(ContentType.raw(), {"start_ts": start_ts})

    async def send(self, text: str) -> None:
        await self.peer.send(text)

    async def flushed(self) -> None:
        self.flushes += 1
        await self.peer.send(f"flush {self.flushes}")


@dataclass
class Stage:
    sessions: Sessions
    client: Flushable
    running: asyncio.Task[Close]
    sdks: list[Puppet] = field(default_factory=list)  # one for each session, in order

    async def sdk(self, nth: int) -> Puppet:
        """Return the SDK of a session once it runs, and have it take the audio."""
        await until(lambda: len(self.sdks) > nth)
        self.sdks[nth].pull()
        return self.sdks[nth]

    async def close(self) -> Close:
        async with asyncio.timeout(PATIENCE):
            return await self.running

    def say(self, *messages: bytes | str) -> None:
        self.client.peer.say(*messages)

    def ended(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.sessions.statistics().ended.items() if count}


@asynccontextmanager
async def stage(**settings: float) -> AsyncIterator[Stage]:
    sdks: list[Puppet] = []

    def engine(_request: StreamRequest) -> Upstream:
        sdks.append(Puppet())
        return Upstream(sdks[-1].start, sdks[-1].abort)  # type: ignore[arg-type] # it passes anything on

    given = {"max_sessions": 1, "drain_seconds": PATIENCE, **settings}
    sessions = Sessions(engine, SessionSettings.model_validate(given))
    client = Flushable(Peer())
    running = asyncio.create_task(run_successively(sessions, client))
    try:
        yield Stage(sessions, client, running, sdks)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_audio_goes_on_after_each_flush_and_times_run_on() -> None:
    async with stage() as on:
        for nth in range(3):
            on.say(SECOND, SECOND, FLUSH)
            sdk = await on.sdk(nth)
            await until(sdk.feed_ended.is_set)
            sdk.say(f"final {nth}")
            sdk.finish()
        on.say(EOS)
        assert await on.close() == COMPLETED
        assert on.client.peer.got == ["final 0", "flush 1", "final 1", "flush 2", "final 2", "flush 3"]
        assert on.client.starts == [0.0, 2.0, 4.0]
        assert on.ended() == {"completed": 3}


async def test_a_flush_of_nothing_is_answered_and_takes_no_session() -> None:
    async with stage() as on:
        on.say(FLUSH, b"", FLUSH)
        await until(lambda: on.client.flushes == 2)
        assert on.sdks == []
        on.say(EOS)
        assert await on.close() == COMPLETED


async def test_a_client_that_flushes_twice_and_speaks_on_loses_nothing() -> None:
    """All of it is sent before the first flush is done."""
    async with stage() as on:
        on.say(b"11", FLUSH, FLUSH, b"22", b"33", EOS)
        first = await on.sdk(0)
        await until(first.feed_ended.is_set)
        assert len(on.sdks) == 1
        first.finish()
        second = await on.sdk(1)
        await until(second.feed_ended.is_set)
        second.finish()
        assert await on.close() == COMPLETED
        assert (first.taken, second.taken) == ([b"11"], [b"22", b"33"])
        assert on.client.flushes == 2


async def test_while_nobody_speaks_no_session_is_taken_up() -> None:
    async with stage() as on:
        on.say(SECOND, FLUSH)
        (await on.sdk(0)).finish()
        await until(lambda: on.client.flushes)
        assert on.sessions.alive == on.sessions.pool.active == 0


async def test_a_client_that_leaves_in_a_flush_is_noticed_behind_what_it_had_sent() -> None:
    async with stage(drain_seconds=0) as on:
        on.say(b"1", FLUSH, b"2", b"3")
        await until((await on.sdk(0)).feed_ended.is_set)
        on.client.peer.leave()
        assert await on.close() == Close(1011, "the stream was cut")
        assert on.ended() == {"left": 1}


async def test_a_client_that_leaves_between_two_sessions_ends_the_connection() -> None:
    async with stage() as on:
        on.client.peer.leave()
        assert await on.close() == COMPLETED


@pytest.mark.parametrize("code", [4003, 4013])
async def test_a_refusal_by_the_upstream_ends_the_connection_with_its_code(code: int) -> None:
    async with stage() as on:
        on.say(SECOND, FLUSH, SECOND)
        (await on.sdk(0)).fail(UpstreamClosed(Close(code, "refused")))
        assert await on.close() == Close(code, "refused")
        assert on.client.flushes == 0


async def test_without_a_free_worker_the_next_session_is_refused() -> None:
    async with stage() as on:
        on.say(SECOND, FLUSH)
        (await on.sdk(0)).finish()
        await until(lambda: on.client.flushes)
        taken = on.sessions.pool.try_acquire()
        assert taken
        on.say(SECOND)
        assert (await on.close()).code == 4029
        taken._free()


async def test_a_drain_ends_a_session_and_the_connection() -> None:
    async with stage() as on:
        on.say(SECOND)
        sdk = await on.sdk(0)
        draining = asyncio.create_task(on.sessions.drain())
        await until(sdk.feed_ended.is_set)
        sdk.say("last")
        sdk.finish()
        await draining
        assert await on.close() == verdicts.DRAINED[1]
        assert on.client.peer.got == ["last"]


@pytest.mark.parametrize("has_spoken", [True, False])
async def test_a_drain_ends_a_connection_on_which_no_session_runs(*, has_spoken: bool) -> None:
    async with stage() as on:
        if has_spoken:
            on.say(SECOND, FLUSH)
            (await on.sdk(0)).finish()
            await until(lambda: on.client.flushes)
        await on.sessions.drain()
        assert await on.close() == verdicts.DRAINED[1]


async def test_the_longest_duration_ends_the_connection_too() -> None:
    async with stage(session_seconds=0.001) as on:
        on.say(SECOND)
        sdk = await on.sdk(0)
        await until(sdk.feed_ended.is_set)
        sdk.finish()
        assert await on.close() == verdicts.TOO_LONG[1]


@pytest.mark.slow
async def test_the_longest_duration_counts_from_the_first_audio_over_all_sessions() -> None:
    """A client that flushes often reaches it, too, and while it waits."""
    async with stage(session_seconds=1.0) as on:
        on.say(SECOND, FLUSH)
        (await on.sdk(0)).finish()
        await until(lambda: on.client.flushes)
        on.say(SECOND, FLUSH)
        (await on.sdk(1)).finish()
        await until(lambda: on.client.flushes == 2)
        assert await on.close() == verdicts.TOO_LONG[1]
        assert on.ended() == {"completed": 2}


async def test_a_drain_during_a_flush_lets_the_flush_be_answered() -> None:
    async with stage() as on:
        on.say(SECOND, FLUSH)
        sdk = await on.sdk(0)
        await until(sdk.feed_ended.is_set)
        draining = asyncio.create_task(on.sessions.drain())
        await until(lambda: on.sessions.draining)
        sdk.say("last")
        sdk.finish()
        await draining
        assert await on.close() == verdicts.DRAINED[1]
        assert on.client.peer.got == ["last", "flush 1"]


async def test_a_flush_in_the_middle_of_a_sample_carries_its_first_byte_over() -> None:
    async with stage() as on:
        on.say(b"abc", FLUSH, b"de", FLUSH, b"f", EOS)
        taken = []
        for nth in range(3):
            sdk = await on.sdk(nth)
            await until(sdk.feed_ended.is_set)
            sdk.finish()
            taken.append(b"".join(sdk.taken))  # type: ignore[arg-type] # all are bytes
        assert await on.close() == COMPLETED
        assert taken == [b"abc", b"cde", b"ef"]
        assert on.client.starts == [0.0, 2 / 32000, 4 / 32000]


async def test_a_drain_waits_for_what_is_held() -> None:
    async with stage() as on:
        with on.sessions.held.one():
            draining = asyncio.create_task(on.sessions.drain())
            assert await on.close() == verdicts.DRAINED[1]
            assert not draining.done()
        await draining


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_a_cancelled_connection_aborts_its_sdk(*, is_flushed: bool) -> None:
    async with stage() as on:
        on.say(SECOND, *([FLUSH] if is_flushed else []))
        sdk = await on.sdk(0)
        await until(lambda: sdk.feed_ended.is_set() or (sdk.taken and not is_flushed))
        on.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await on.running
        assert sdk.aborts == 1
        assert on.ended() == {"cancelled": 1}


@pytest.mark.parametrize(
    ("messages", "most"),
    [([b""] * 2000, successive.KEPT_MESSAGES), ([bytes(2**19)] * 9, successive.KEPT_BYTES // 2**19)],
)
async def test_reading_ahead_is_bounded_and_keeps_everything(messages: list[bytes], most: int) -> None:
    peer = Peer()
    taken: deque[bytes | str | None] = deque()
    real = peer.receive

    async def receive() -> bytes | str | None:
        taken.append(await real())
        return taken[-1]

    peer.receive = receive  # type: ignore[method-assign] # it counts what is read
    ahead = ReadAhead(peer)
    peer.say(*messages)
    peer.leave()
    waiting = asyncio.create_task(ahead.left())
    await until(lambda: len(taken) == most)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(taken) == most
    waiting.cancel()
    assert [await ahead.receive() for _ in messages] == messages
    assert await ahead.receive() is None
    await ahead.left()
    assert [await ahead.receive() for _ in range(2)] == [None, None]


def test_seconds_are_told_from_samples_only() -> None:
    assert bytes_per_second(ContentType.raw(24000)) == 48000
    assert bytes_per_second(ContentType.parse("audio/pcmu")) == 8000
    assert bytes_per_second(ContentType.parse("audio/webm")) is None
