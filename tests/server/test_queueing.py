"""The account's limit and the queue for it, as clients of one or of several services see them."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.cluster import HELD, Claim, Terms, Unavailable
from speechbridge.cluster.memory import MemoryLeases
from speechbridge.cluster.redis import connection
from speechbridge.cluster.redis import leases as redis_leases
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS
from speechbridge.server import places, queueing
from speechbridge.server.places import Places
from tests.helpers.peer import Peer
from tests.helpers.puppet import until
from tests.helpers.redis import redis_server
from tests.helpers.service import STREAM, client, drop_streams, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from speechbridge.cluster import Answer
    from speechbridge.server.run import Server
    from tests.helpers.redis import RedisServer

pytestmark = pytest.mark.slow  # with processes, or with a Redis

QUEUE = f"{STREAM}&queue=true"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Upstream:
    """An SDK that takes all audio, answers nothing, and counts how many streams it has at once."""

    def __init__(self) -> None:
        self.streams = self.most = 0
        self._lock = threading.Lock()

    def start(self, audio: Iterator[bytes]) -> Iterator[str]:
        with self._lock:
            self.streams += 1
            self.most = max(self.most, self.streams)
        try:
            for _ in audio:
                pass
            yield from ()
        finally:
            with self._lock:
                self.streams -= 1


@asynccontextmanager
async def services(count: int, redis: RedisServer | None, prefix: str, **settings: Any) -> AsyncIterator[list[Server]]:
    """Run several services that share a Redis; or one without."""
    upstream = Upstream()
    shared = {} if redis is None else {"redis_url": redis.url, "redis_prefix": f"{prefix}-{secrets.token_hex(4)}"}
    async with AsyncExitStack() as stack:
        given = {"account_streams": 1, **shared, **settings}
        yield [await stack.enter_async_context(service(upstream.start, **given)) for _ in range(count)]
    assert upstream.most <= given["account_streams"]


async def message(socket: ClientConnection) -> dict[str, Any]:
    found = json.loads(await socket.recv())
    assert isinstance(found, dict)
    return found


async def place(socket: ClientConnection) -> int:
    """Return the place that comes next; 0 for `connected`."""
    found = await message(socket)
    return int(found["place"]) if found["type"] == "queued" else 0


async def finish(socket: ClientConnection) -> None:
    await socket.send(EOS)
    assert (await ending(socket))[1] == Close(1000, END_OF_INPUT)


@pytest.fixture(params=["one process", "two processes"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Server, Server]]:
    """Give two services that share one stream: the same one twice, or two on one Redis."""
    shares = request.param == "two processes"
    redis = request.getfixturevalue("redis") if shares else None
    async with services(1 + shares, redis, "pair") as found:
        yield found[0], found[-1]


async def test_a_full_account_is_refused_at_once(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first:
        assert await place(first) == 0
        text = "all streams of the account (1) are in use: try again when one has ended, or use queue=true"
        async with client(pair[1], STREAM) as second:
            assert await ending(second) == ([], Close(4029, text))


async def test_one_for_whom_a_stream_is_free_does_not_wait(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], QUEUE) as socket:
        assert await place(socket) == 0
        await finish(socket)
    async with client(pair[1], QUEUE) as socket:  # at once: the first one's place was given back before its close
        assert await place(socket) == 0


async def test_those_who_wait_are_told_their_place_and_served_in_order(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first:
        assert await place(first) == 0
        async with client(pair[1], QUEUE) as second:
            assert await place(second) == 1
            async with client(pair[0], QUEUE) as third, client(pair[0], STREAM) as impatient:
                queued = await message(third)
                assert (queued["type"], queued["place"]) == ("queued", 2)
                assert queued["wait_seconds"] > 0
                assert (await ending(impatient))[1].code == 4029
                await finish(first)
                assert await place(second) == 0
                assert await place(third) == 1
                await finish(second)
                assert await place(third) == 0
                await finish(third)


async def test_one_who_was_cut_comes_back_to_the_same_place(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first:
        assert await place(first) == 0
        async with client(pair[0], QUEUE) as second:
            ticket = (await message(second))["ticket"]
            async with client(pair[1], QUEUE) as third:
                assert await place(third) == 2
                second.transport.abort()
                async with client(pair[1], f"{QUEUE}&ticket={ticket}") as again:
                    queued = await message(again)
                    assert (queued["place"], queued["ticket"]) == (1, ticket)
                    await finish(first)
                    assert await place(again) == 0


async def test_one_who_leaves_on_purpose_gives_its_place_up_at_once(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first:
        assert await place(first) == 0
        async with client(pair[0], QUEUE) as second:
            assert await place(second) == 1
            async with client(pair[1], QUEUE) as third:
                assert await place(third) == 2
                await second.close()
                assert await place(third) == 1


async def test_a_ticket_has_one_connection(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first, client(pair[0], QUEUE) as second:
        await place(first)
        ticket = (await message(second))["ticket"]
        async with client(pair[1], f"{QUEUE}&ticket={ticket}") as again:
            assert await place(again) == 1
            assert await ending(second) == ([], queueing.TAKEN_OVER)


async def test_audio_that_comes_while_a_client_waits_is_transcribed(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first, client(pair[1], QUEUE) as second:
        await place(first)
        await second.send(b"one")
        await second.send(b"two")
        await second.send(EOS)
        assert await place(second) == 1
        await finish(first)
        assert await place(second) == 0
        assert (await ending(second))[1] == Close(1000, END_OF_INPUT)
        assert pair[1].sessions.statistics().totals.received_bytes == 6


class SlowLeases(MemoryLeases):
    """Answers the second call, which finds a place, when the test says so."""

    def __init__(self) -> None:
        super().__init__(Terms(1))
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self._calls = 0

    async def ask(self, claims: Sequence[Claim]) -> list[Answer]:
        self._calls += 1
        if self._calls == 2:
            self.asked.set()
            await self.answers.wait()
        return await super().ask(claims)


class Client(Peer):
    """A client that waits."""

    def unread(self, messages: Iterable[bytes | str]) -> None:
        self.say(*messages)


async def test_one_who_leaves_at_the_moment_of_its_turn_takes_no_place() -> None:
    leases, peer = SlowLeases(), Client()
    await MemoryLeases.ask(leases, [Claim("another")])
    here = Places(leases)
    async with here.running():
        waiting = asyncio.create_task(queueing.Queue(here, 60.0).wait(peer))
        await leases.asked.wait()
        await leases.release("another")
        peer.leave()
        await until(peer._messages.empty)
        leases.answers.set()
        with pytest.raises(queueing.Left):
            await waiting
        await until(lambda: here.held == 0)
    assert await leases.ask([Claim("another")]) == [HELD]


class UnavailableLeases(MemoryLeases):
    """Leases in a store that does not answer when one is to be released."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.releases = 0
        self.fails = asyncio.Event()

    async def release(self, _holder: str) -> None:
        self.releases += 1
        await self.fails.wait()
        raise Unavailable


async def test_streams_that_end_together_wait_once_for_a_redis_that_does_not_answer() -> None:
    leases = UnavailableLeases(Terms(3))
    here = Places(leases)
    taken = [await here.take() for _ in range(3)]
    async with here.running():
        releasing = [asyncio.create_task(place.release(was_cut=False)) for place in taken]
        await until(lambda: here.held == 0)
        leases.fails.set()
    await asyncio.gather(*releasing)
    assert leases.releases == 1


async def test_a_wait_has_an_end(redis: RedisServer) -> None:
    async with (
        services(1, redis, "end", queue_seconds=0.2) as (server,),
        client(server, STREAM) as first,
        client(server, QUEUE) as second,
    ):
        await place(first)
        assert await place(second) == 1
        text = "no stream of the account was free within 0.2 s: try again later"
        assert await ending(second) == ([], Close(4029, text))


async def test_a_wait_ends_likewise_for_one_who_was_cut_off_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has waited before counts, or a client that is cut off again and again would never be refused."""
    ask = MemoryLeases.ask

    async def asked(leases: MemoryLeases, claims: Sequence[Claim]) -> list[Answer]:
        return [replace(answer, waited=60.0) if answer.place else answer for answer in await ask(leases, claims)]

    monkeypatch.setattr(MemoryLeases, "ask", asked)
    async with (
        services(1, None, "", queue_seconds=60.0) as (server,),
        client(server, STREAM) as first,
    ):
        await place(first)
        async with client(server, QUEUE) as second:
            assert await place(second) == 1
            assert (await ending(second))[1].code == 4029


async def test_a_service_that_drains_sends_those_who_wait_away(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first, client(pair[0], QUEUE) as second:
        await place(first)
        assert await place(second) == 1
        pair[0].stop()
        assert (await ending(second))[1].code == (await ending(first))[1].code == 4010


async def test_a_stream_that_may_be_resumed_waits_likewise_and_keeps_its_place_when_it_is_cut(
    pair: tuple[Server, Server],
) -> None:
    async with client(pair[0], f"{STREAM}&resume=true") as first, client(pair[0], f"{QUEUE}&resume=true") as second:
        key = (await message(first))["resume"]
        assert await place(second) == 1
        first.transport.abort()
        async with client(pair[0], f"/speechtotext/v1/stream?resume={key}&finals=0") as again:
            assert (await message(again))["type"] == "connected"  # without a wait: the session has its place still
            await finish(again)
        greeting = await message(second)
        assert greeting["type"] == "connected"
        assert greeting["resume"]


async def test_the_other_ways_to_the_speech_service_have_the_same_limit(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], "/ws_a") as first, client(pair[1], "/ws_a") as second, client(pair[1], "/ws") as flows:
        await first.send(b"audio")
        assert (await ending(second))[1].code == 4029
        await flows.send("audio")
        assert "ended early, with 4029" in str(await flows.recv())


async def test_a_client_that_vanishes_gives_its_stream_back(pair: tuple[Server, Server]) -> None:
    async with client(pair[0], STREAM) as first, client(pair[1], QUEUE) as second:
        await place(first)
        assert await place(second) == 1
        drop_streams(pair[0]) if pair[0] is not pair[1] else first.transport.abort()
        assert await place(second) == 0


async def test_a_stream_whose_lease_cannot_be_renewed_is_cut_before_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.3)
    monkeypatch.setattr(places, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(places, "DISCONNECT_AFTER", 0.5)
    with redis_server(tmp_path) as redis:
        async with (
            services(1, redis, "cut") as (server,),
            client(server, STREAM) as first,
            client(server, QUEUE) as second,
        ):
            await place(first)
            assert await place(second) == 1
            redis.freeze()
            assert (await ending(first))[1] == places.LOST
            async with client(server, STREAM) as third, client(server, QUEUE) as fourth:
                assert (await ending(third))[1] == places.NOT_COUNTED
                assert (await ending(fourth))[1] == places.NOT_COUNTED
            assert server.sessions.places.lost == 1
            redis.thaw()
            assert await place(second) == 0  # who waited has waited on


async def test_a_stream_outlives_a_redis_that_stands_still_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    monkeypatch.setattr(places, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(places, "DISCONNECT_AFTER", 2.0)
    with redis_server(tmp_path) as redis:
        async with services(1, redis, "still") as (server,), client(server, STREAM) as first:
            await place(first)
            redis.freeze()
            await asyncio.sleep(0.8)  # several calls fail
            redis.thaw()
            (held,) = server.sessions.places._held.values()
            frozen = held.confirmed
            await until(lambda: held.confirmed > frozen)
            await finish(first)
        assert server.sessions.places.lost == 0


async def test_the_place_of_a_stream_whose_thread_does_not_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()

    def start(_audio: Iterator[bytes]) -> Iterator[str]:
        stuck.wait()
        yield from ()

    async with service(start, account_streams=1, drain_seconds=0.1) as server:
        async with client(server, STREAM) as first:
            await place(first)
        await until(lambda: server.sessions.alive == 0)
        async with client(server, STREAM) as second:
            assert (await ending(second))[1].code == 4029
        stuck.set()
        async with client(server, QUEUE) as third:
            while await place(third):
                pass


async def test_those_who_wait_and_those_who_speak_outlive_a_redis_that_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services' upstream checks that no stream is given twice."""
    monkeypatch.setattr(places, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(queueing, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(redis_leases, "SETTLE_SECONDS", 0.5)
    with redis_server(tmp_path) as redis:
        async with services(2, redis, "forgets") as (one, other), client(one, STREAM) as first:
            assert await place(first) == 0
            async with client(other, QUEUE) as second:
                assert await place(second) == 1
                async with client(one, QUEUE) as third:
                    assert await place(third) == 2
                    await one.app.state.sessions.places.leases._redis._client.flushall()
                    await finish(first)
                    assert await place(second) == 0
                    assert await place(third) == 1
                    await finish(second)
                    assert await place(third) == 0
                    await finish(third)
