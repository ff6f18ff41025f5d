"""The journal on a real Redis: whatever happens to a process or to Redis, a stream goes on as its client knows it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import COUNTS_AS_DEAD_AFTER, KILL_BEFORE, Elsewhere, Unavailable
from speechbridge.cluster.record import Record
from speechbridge.cluster.redis import connection, journal
from speechbridge.cluster.redis.connection import Redis
from speechbridge.cluster.redis.journal import RedisJournal
from tests.helpers.puppet import PATIENCE, until
from tests.helpers.redis import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers.redis import RedisServer


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(4)


@asynccontextmanager
async def process(server: RedisServer, prefix: str) -> AsyncIterator[RedisJournal]:
    """Be one process on this Redis. Leaving is what a kill is to it: nothing is let go."""
    redis = Redis(server.url, prefix)
    made = RedisJournal(redis, 60.0)
    async with redis.running(), made.running():
        yield made


class Owner:
    """A stream of a process that lets it go when it is asked to."""

    def __init__(self, journal: RedisJournal, record: Record) -> None:
        self.journal = journal
        self.record = record
        self.losses = 0
        self._going: asyncio.Task[None] | None = None
        journal.keep(record, self._lose)

    def _lose(self) -> None:
        self.losses += 1
        if self._going is None:
            self._going = asyncio.create_task(self.journal.release(self.record))


async def begun(kept: RedisJournal) -> Owner:
    """Begin a stream, and wait until it is in Redis: two bytes, which are settled."""
    owner = Owner(kept, Record("key", "about", 10**6, unit=2))
    owner.record.receive(b"..")
    owner.record.settle(2)
    await stored(owner.record)
    return owner


def audio(record: Record) -> bytes:
    return b"".join(piece for _, piece in record.audio.pieces())


async def stored(record: Record) -> None:
    await until(lambda: (record.acknowledgeable, record.deliverable) == (record.received, record.total))


def put(record: Record, *finals: str, settled: int = 0) -> None:
    for final in finals:
        record.add(final)
    record.settle(settled)


async def test_another_process_goes_on_with_all_that_a_client_was_told(server: RedisServer, prefix: str) -> None:
    async with process(server, prefix) as first:
        record = (await begun(first)).record
        record.receive(b"\x00\xff" * 10)
        put(record, "one", "two ü", settled=10)
        [*record.confirm(1)]
        record.end()
        await stored(record)
    async with process(server, prefix) as second:
        taken = await second.take("key", "")
        assert taken is not None
        assert (taken.about, taken.received, taken.settled, taken.begin) == ("about", 22, 10, 10)
        assert audio(taken) == b"\x00\xff" * 6
        assert (taken.confirmed, [*taken.finals], taken.has_ended) == (1, ["two ü"], True)


async def test_what_is_not_known_is_none(server: RedisServer, prefix: str) -> None:
    async with process(server, prefix) as kept:
        assert await kept.take("another", "") is None


async def test_nor_is_a_stream_of_another_owner(server: RedisServer, prefix: str) -> None:
    async with process(server, prefix) as first, process(server, prefix) as second:
        owner = await begun(first)
        assert await second.take("key", "another") is None
        assert not owner.losses


async def test_an_owner_that_lives_is_asked_and_lets_go_of_the_very_last(server: RedisServer, prefix: str) -> None:
    async with process(server, prefix) as first, process(server, prefix) as second:
        owner = await begun(first)
        owner.record.receive(b"1234")
        put(owner.record, "last", settled=4)
        async with asyncio.timeout(PATIENCE):
            taken = await second.take("key", "")
        assert taken is not None
        assert owner.losses
        assert (audio(taken), [*taken.finals]) == (b"34", ["last"])


async def test_an_owner_that_has_forgotten_a_stream_says_so(server: RedisServer, prefix: str) -> None:
    async with process(server, prefix) as first, process(server, prefix) as second:
        owner = await begun(first)
        begin_another = Owner(first, Record("another", "about", 10))  # the process goes on to beat
        first.forget(owner.record)
        async with asyncio.timeout(PATIENCE):
            assert await second.take("key", "") is not None
        assert not begin_another.losses


async def test_a_stream_that_is_dropped_is_gone_and_its_client_waits_for_nothing(
    server: RedisServer, prefix: str
) -> None:
    async with process(server, prefix) as first, process(server, prefix) as second:
        owner = await begun(first)
        owner.record.receive(b"more")
        first.drop(owner.record)
        assert (owner.record.acknowledgeable, audio(owner.record)) == (6, b"")
        while await second.take("key", "") is not None:
            pass
        assert not owner.losses


async def test_one_that_lost_its_stream_writes_no_more(server: RedisServer, prefix: str) -> None:
    """A process that was taken for dead comes back."""
    async with process(server, prefix) as second:
        async with process(server, prefix) as first:
            owner = await begun(first)
        async with process(server, prefix) as first_again:
            taken = await second.take("key", "")
            assert taken is not None
            taken.room = 100
            new = Owner(second, taken)
            new.record.receive(b"new")
            await stored(new.record)
            first_again._process = first._process
            late = Owner(first_again, owner.record)
            late.record.receive(b"late")
            await until(lambda: late.losses)
            assert late.record.acknowledgeable == 2
        async with process(server, prefix) as third:
            async with asyncio.timeout(PATIENCE):
                found = await third.take("key", "")
            assert found is not None
            assert audio(found) == b"new"


async def test_an_owner_that_stands_still_keeps_its_stream(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "TAKE_SECONDS", 0.5)
    async with process(server, prefix) as first, process(server, prefix) as second:
        owner = await begun(first)
        owner.journal.keep(owner.record, lambda: None)  # nothing happens when it is asked
        await until(lambda: owner.record.acknowledgeable == owner.record.received)
        with pytest.raises(Elsewhere):
            await second.take("key", "")


async def test_while_redis_stands_still_finals_go_out_and_no_audio_is_confirmed(tmp_path: Path, prefix: str) -> None:
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            record = (await begun(first)).record
            record.receive(b"before")
            await stored(record)
            redis.freeze()
            record.receive(b"meanwhile")
            put(record, "one")
            assert record.deliverable == 0
            async with asyncio.timeout(3.0):
                await until(lambda: record.deliverable == 1)
            assert record.acknowledgeable == 8
            assert first.unstored == 1
            redis.thaw()
            await stored(record)
        async with process(redis, prefix) as second:
            taken = await second.take("key", "")
            assert taken is not None
            assert (audio(taken), [*taken.finals]) == (b"beforemeanwhile", ["one"])


async def test_a_redis_that_has_forgotten_everything_gets_it_once_more(tmp_path: Path, prefix: str) -> None:
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            record = (await begun(first)).record
            record.receive(b"before")
            put(record, "one", settled=4)
            await stored(record)
            await first._redis._client.flushall()
            record.receive(b"after")
            await stored(record)
        async with process(redis, prefix) as second:
            taken = await second.take("key", "")
            assert taken is not None
            assert (audio(taken), [*taken.finals], taken.settled) == (b"foreafter", ["one"], 4)


async def test_it_gets_it_also_if_nothing_of_the_stream_changes(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may die before its client says the next word."""
    monkeypatch.setattr(journal, "TOUCH_SECONDS", 600.0)
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            record = (await begun(first)).record
            record.receive(b"audio")
            await stored(record)
            client = first._redis._client
            await client.flushall()
            async with asyncio.timeout(PATIENCE):
                while not await client.keys("*:state"):  # noqa: ASYNC110 # nobody tells when it is there
                    await asyncio.sleep(0)
        async with process(redis, prefix) as second:
            taken = await second.take("key", "")
            assert taken is not None
            assert audio(taken) == b"audio"


class Ends:
    """Stands for the switch: notes for how many seconds it is set; None: it is not."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def set(self, seconds: float) -> None:
        self.seconds = seconds

    def clear(self) -> None:
        self.seconds = None

    close = clear


async def test_a_process_that_stands_still_ends_before_it_counts_as_dead(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its upstream would be open still when another process opens one for the same stream."""
    ends = Ends()
    monkeypatch.setattr(journal, "Switch", lambda: ends)
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            owner = await begun(first)
            assert ends.seconds is not None
            assert ends.seconds <= COUNTS_AS_DEAD_AFTER - KILL_BEFORE
            ends.seconds = 0.1
            redis.freeze()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: ends.seconds != 0.1)  # it moves on: this process does not stand still
            redis.thaw()
            await first.release(owner.record)
            async with asyncio.timeout(PATIENCE):
                await until(lambda: ends.seconds is None)


async def test_a_redis_that_refuses_everything_is_told_of_once(
    tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=journal.__name__)
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            record = (await begun(first)).record
            client = first._redis._client
            await client.config_set("maxmemory", "1")
            for number in range(1, 4):
                put(record, "final")
                await until(lambda number=number: record.deliverable == number)  # type: ignore[misc] # its default
            await client.config_set("maxmemory", "0")
            record.receive(b"audio")
            await stored(record)
    told = [entry.getMessage() for entry in caplog.records if entry.name == journal.__name__]
    away = f"Redis at {tmp_path}/redis.sock has no memory left"
    assert told == [
        f"1 streams cannot be stored: {away}; finals are sent unstored",
        "streams are stored again; 3 finals were sent unstored",
    ]


async def test_a_stream_whose_client_is_away_is_let_go_when_redis_is(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client may have it elsewhere soon; one whose client is here goes on."""
    monkeypatch.setattr(journal, "DISCONNECT_AFTER", 1.0)
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            away, attended = Owner(first, Record("away", "", 10)), Owner(first, Record("attended", "", 10))
            attended.record.is_connected = True
            await until(lambda: first._reached_at < float("inf"))
            redis.freeze()
            async with asyncio.timeout(PATIENCE):
                await until(lambda: away.losses)
            assert not attended.losses
            redis.thaw()


async def test_every_key_expires_and_tells_no_resume_key(server: RedisServer, prefix: str) -> None:
    async with process(server, prefix) as first:
        record = (await begun(first)).record
        record.receive(b"audio")
        put(record, "one")
        await stored(record)
        client = first._redis._client
        keys = [key async for key in client.scan_iter(f"*{prefix}*")]
        assert len(keys) == 4  # state, audio, finals and the beat of the process
        for key in keys:
            assert await client.pttl(key) > 0
            assert not key.endswith("key")


async def test_a_redis_that_cannot_be_reached_is_away(tmp_path: Path, prefix: str) -> None:
    with redis_server(tmp_path) as redis:
        async with process(redis, prefix) as first:
            redis.process.kill()
            redis.process.wait()
            with pytest.raises(Unavailable):
                await first.take("key", "")


async def test_many_streams_are_released_in_the_time_of_two_calls_while_redis_stands_still(tmp_path: Path) -> None:
    """One call may be under way when the process begins to end."""
    with redis_server(tmp_path) as alone:
        async with process(alone, "test") as first:
            records = [Record(f"key{number}", "about", 10**6) for number in range(8)]
            for record in records:
                first.keep(record, lambda: None)
                record.receive(b"..")
                await stored(record)
            alone.freeze()
            async with asyncio.timeout(3 * connection.PATIENCE):
                found = await asyncio.gather(*map(first.release, records), return_exceptions=True)
            assert {type(one) for one in found} == {Unavailable}
            alone.thaw()
