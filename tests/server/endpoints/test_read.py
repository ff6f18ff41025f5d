"""Those who read what another one speaks: over WebSockets, as server-sent events, and as files."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed

from speechbridge.cluster import Unavailable
from speechbridge.cluster.redis import shares
from speechbridge.cluster.redis.connection import Redis
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS, Element, Final, Partial
from speechbridge.protocol.reading import READ_ONLY, TOO_MANY, UNKNOWN, Entry
from tests.helpers.puppet import Puppet, until
from tests.helpers.redis import redis_server
from tests.helpers.service import PATIENCE, STREAM, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

    from websockets.asyncio.client import ClientConnection

    from speechbridge.server.run import Server
    from tests.helpers.redis import RedisServer

pytestmark = pytest.mark.slow  # with processes, or with a Redis

SHARED = f"{STREAM}&share=true"
FINALS = [
    Final(n, n + 1.0, (Element(f"word{n}", ts=n, end_ts=n + 0.5), Element(".", "punct"))).encode() for n in range(5)
]
PARTIAL = Partial(9.0, 10.0, (Element("perhaps"),)).encode()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Stage:
    """A speaker at one service, whose SDK says what a test orders; readers are at another one, or at the same."""

    def __init__(self, sdk: Puppet, speaking_at: Server, reading_at: Server) -> None:
        self.sdk = sdk
        self.speaking_at = speaking_at
        self.reading_at = reading_at
        self.token = ""

    @asynccontextmanager
    async def speaker(self, path: str = SHARED) -> AsyncIterator[ClientConnection]:
        async with client(self.speaking_at, path) as socket:
            self.token = json.loads(await socket.recv())["read"]
            yield socket

    def reader(self, query: str = "") -> Any:
        return client(self.reading_at, f"/read/{self.token}{query}")

    async def say(self, speaker: ClientConnection, *messages: str) -> None:
        """Have the SDK say something, and wait until the speaker has it."""
        for message in messages:
            self.sdk.say(message)
            assert await speaker.recv() == message

    async def finish(self, speaker: ClientConnection) -> None:
        self.sdk.pull()
        await speaker.send(EOS)
        await until(self.sdk.feed_ended.is_set)
        self.sdk.finish()
        assert (await ending(speaker))[1] == Close(1000, END_OF_INPUT)

    async def get(self, ending: str = "", **headers: str) -> tuple[int, dict[str, str], str]:
        """Request something of the transcript, to the end of the response: its status, headers and body."""
        return await get(self.reading_at, f"/read/{self.token}{ending}", **headers)


def at(sdk: Puppet, **settings: Any) -> AbstractAsyncContextManager[Server]:
    start: Any = sdk.start
    return service(start, **settings)


async def get(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    host, port = server.url.removeprefix("ws://").split(":")
    stream, out = await asyncio.open_connection(host, int(port))
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    out.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(PATIENCE):
        response = (await stream.read()).decode()
    out.close()
    await out.wait_closed()
    head, _, body = response.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    if "transfer-encoding: chunked" in head.lower():
        body = "".join(re.findall(r"[0-9a-f]+\r\n(.*?)\r\n(?=[0-9a-f]+\r\n)", body, re.DOTALL))
    found = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    return int(first.split()[1]), found, body


@pytest.fixture(params=["one process", "two processes"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    sdk = Puppet()
    if request.param == "one process":
        async with at(sdk, readers=3) as server:
            yield Stage(sdk, server, server)
        return
    given = {"redis_url": request.getfixturevalue("redis").url, "redis_prefix": secrets.token_hex(4), "readers": 3}
    async with at(sdk, **given) as speaking_at, at(sdk, **given) as reading_at:
        yield Stage(sdk, speaking_at, reading_at)


async def test_a_reader_has_each_final_so_far_and_then_what_the_speaker_gets(stage: Stage) -> None:
    async with stage.speaker() as speaker:
        await stage.say(speaker, *FINALS[:2])
        async with stage.reader() as reader:
            assert [await reader.recv() for _ in range(2)] == FINALS[:2]
            await stage.say(speaker, PARTIAL)
            assert await reader.recv() == PARTIAL
            await stage.say(speaker, *FINALS[2:])
            await stage.finish(speaker)
            assert await ending(reader) == (FINALS[2:], Close(1000, END_OF_INPUT))
    async with stage.reader() as late:
        assert await ending(late) == (FINALS, Close(1000, END_OF_INPUT))
    async with stage.reader("?after=3") as again:
        assert await ending(again) == (FINALS[3:], Close(1000, END_OF_INPUT))


async def test_the_speaker_may_have_a_resumable_stream(stage: Stage) -> None:
    async with stage.speaker(f"{SHARED}&resume=true") as speaker, stage.reader() as reader:
        await stage.say(speaker, FINALS[0])
        assert await reader.recv() == FINALS[0]
        await stage.finish(speaker)
        assert await ending(reader) == ([], Close(1000, END_OF_INPUT))


async def test_without_share_there_is_no_token(stage: Stage) -> None:
    async with client(stage.speaking_at, STREAM) as speaker:
        assert json.loads(await speaker.recv()).keys() == {"type", "id"}
        stage.sdk.finish()


async def test_server_sent_events_have_ids_and_an_end(stage: Stage) -> None:
    async with stage.speaker() as speaker:
        await stage.say(speaker, *FINALS[:2])
        reading = asyncio.create_task(stage.get())
        await until(lambda: stage.reading_at.app.state.readers.reading == 1)
        await stage.say(speaker, FINALS[2])
        await stage.finish(speaker)
        status, headers, body = await reading
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    end = "event: end\nid: 4\ndata: {}\n\n"
    assert body == "".join(f"id: {n}\ndata: {text}\n\n" for n, text in enumerate(FINALS[:3], 1)) + end
    assert (await stage.get(last_event_id="2"))[2] == Entry.of(FINALS[2], 3).event.decode() + end
    assert (await stage.get(last_event_id="4"))[0] == 204
    assert (await stage.get(last_event_id="nonsense"))[2] == body


async def test_files_have_the_finals_so_far(stage: Stage) -> None:
    async with stage.speaker() as speaker:
        await stage.say(speaker, *FINALS[:2], PARTIAL)
        async with stage.reader() as reader:
            assert [await reader.recv() for _ in range(2)] == FINALS[:2]
            status, headers, body = await stage.get(".txt")
        assert (status, headers["content-type"], body) == (200, "text/plain; charset=utf-8", "word0.\nword1.\n")
        assert headers["access-control-allow-origin"] == "*"
        assert (await stage.get(".srt"))[2].startswith("1\n00:00:00,000 --> ")
        assert (await stage.get(".vtt"))[2].startswith("WEBVTT\n")
        assert len(json.loads((await stage.get(".json"))[2])["monologues"]) == 2
        assert (await stage.get(".exe"))[0] == 404
        stage.sdk.finish()


async def test_the_address_of_a_page_comes_as_a_code(stage: Stage) -> None:
    async with stage.speaker():
        status, headers, body = await stage.get(".svg?page=https://example.org/")
        assert (status, headers["content-type"]) == (200, "image/svg+xml")
        assert body.startswith("<svg")
        for page in ("", "javascript:alert(1)", "https://example.org/" + "x" * 500, "http://["):
            assert (await stage.get(f".svg?page={page}"))[0] == 422
        stage.sdk.finish()


async def test_a_wrong_token_is_404_and_4004(stage: Stage) -> None:
    stage.token = "wrong"
    async with stage.reader() as reader:
        assert await ending(reader) == ([], UNKNOWN)
    for ending_ in ("", ".srt", ".svg?page=https://example.org/"):
        assert (await stage.get(ending_))[0] == 404


async def test_a_reader_that_speaks_is_sent_away(stage: Stage) -> None:
    async with stage.speaker(), stage.reader() as reader:
        await reader.send("hello")
        assert await ending(reader) == ([], READ_ONLY)
        stage.sdk.finish()


async def test_no_more_may_read_than_are_allowed(stage: Stage) -> None:
    async with stage.speaker(), stage.reader(), stage.reader(), stage.reader():
        readers = stage.reading_at.app.state.readers
        await until(lambda: readers.reading == 3)
        async with stage.reader() as fourth:
            assert await ending(fourth) == ([], TOO_MANY)
        assert (await stage.get())[0] == 429
        stage.sdk.finish()


async def test_readers_at_all_processes_count_together(stage: Stage) -> None:
    elsewhere = Stage(stage.sdk, stage.speaking_at, stage.speaking_at)
    async with stage.speaker() as speaker, stage.reader() as first, stage.reader() as second:
        elsewhere.token = stage.token
        await stage.say(speaker, FINALS[0])
        async with elsewhere.reader() as third:
            assert [await reader.recv() for reader in (first, second, third)] == [FINALS[0]] * 3
            for place in (stage, elsewhere):
                async with place.reader() as fourth:
                    assert await ending(fourth) == ([], TOO_MANY)
            await first.close()
            async with asyncio.timeout(PATIENCE):
                while await is_full(elsewhere):  # noqa: ASYNC110 # another process has no event to wait for
                    await asyncio.sleep(0.02)
        stage.sdk.finish()


async def is_full(stage: Stage) -> bool:
    """Tell whether no more may read."""
    async with stage.reader() as reader:
        try:
            return bool(await reader.recv() != FINALS[0])
        except ConnectionClosed:
            assert reader.close_code == TOO_MANY.code
            return True


async def test_while_redis_is_away_each_process_counts_its_own_readers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_arguments: object) -> None:
        raise Unavailable("for this test")

    async with stage.speaker() as speaker, stage.reader() as first:
        await stage.say(speaker, FINALS[0])
        assert await first.recv() == FINALS[0]
        monkeypatch.setattr(Redis, "run", away)
        async with stage.reader() as second, stage.reader() as third, stage.reader() as fourth:
            assert [await reader.recv() for reader in (second, third)] == [FINALS[0]] * 2
            assert await ending(fourth) == ([], TOO_MANY)
        monkeypatch.undo()
        stage.sdk.finish()


async def test_readers_need_no_key_and_have_no_other_limit() -> None:
    sdk = Puppet()
    async with at(sdk, sessions_per_address=1, max_connections=1, handshakes_per_minute=1) as server:
        stage = Stage(sdk, server, server)
        async with stage.speaker(), stage.reader(), stage.reader(), stage.reader() as reader:
            sdk.say(FINALS[0])
            assert await reader.recv() == FINALS[0]
            assert server.sessions.alive == 1
            sdk.finish()


async def test_a_token_is_good_at_any_process_as_soon_as_it_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the speaker's process has brought anything of the transcript to Redis."""

    async def never(_writer: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(shares._Writer, "run", never)
    async with stage.speaker(), stage.reader() as reader:
        await reader.send("")
        assert await ending(reader) == ([], READ_ONLY)
        stage.sdk.finish()


async def test_a_transcript_is_gone_some_time_after_its_end(redis: RedisServer) -> None:
    for given in ({}, {"redis_url": redis.url, "redis_prefix": "gone"}):
        sdk = Puppet()
        async with at(sdk, share_seconds=0.2, **given) as server:
            stage = Stage(sdk, server, server)
            async with stage.speaker() as speaker:
                await stage.finish(speaker)
            await sooner_or_later(server, f"/read/{stage.token}", 404)


async def test_readers_are_told_when_the_service_drains(stage: Stage) -> None:
    """Of a speaker that is here, they have the end; of one at another process, that they may come again."""
    async with stage.speaker() as speaker, stage.reader() as reader:
        await stage.say(speaker, FINALS[0])
        assert await reader.recv() == FINALS[0]
        stage.sdk.pull()
        stage.reading_at.stop()
        stage.sdk.finish()
        is_same = stage.reading_at is stage.speaking_at
        assert (await ending(reader))[1].code == (1000 if is_same else 4010)


async def test_no_token_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with stage.speaker() as speaker, stage.reader():
        assert (await stage.get(".srt"))[0] == 200
        await stage.finish(speaker)
    assert "/read/..." in caplog.text
    told = [record for record in caplog.records if stage.token in record.getMessage()]
    assert {record.name for record in told} <= {"websockets.client"}  # the test's own


async def test_a_reader_that_leaves_is_not_counted_any_more(stage: Stage) -> None:
    readers = stage.reading_at.app.state.readers
    async with stage.speaker():
        async with stage.reader():
            await until(lambda: readers.reading == 1)
        await until(lambda: readers.reading == 0)
        stage.sdk.finish()


async def test_finals_come_once_and_in_order_also_after_redis_has_forgotten_everything(redis: RedisServer) -> None:
    sdk, given = Puppet(), {"redis_url": redis.url, "redis_prefix": "forgetful"}
    async with at(sdk, **given) as speaking_at, at(sdk, **given) as reading_at:
        stage = Stage(sdk, speaking_at, reading_at)
        async with stage.speaker() as speaker, stage.reader() as reader:
            await stage.say(speaker, *FINALS[:2])
            assert [await reader.recv() for _ in range(2)] == FINALS[:2]
            run("redis-cli", "-s", redis.url.removeprefix("unix://"), "flushall")
            await stage.say(speaker, *FINALS[2:])
            await stage.finish(speaker)
            assert await ending(reader) == (FINALS[2:], Close(1000, END_OF_INPUT))


@pytest.mark.parametrize("lost", ["everything", "that the speaker's process lives"])
async def test_readers_stay_until_a_redis_that_forgot_is_told_again(
    lost: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart without its data, or an outage that lasted longer than a key."""
    monkeypatch.setattr(shares, "LOOK_SECONDS", 0.05)
    sdk, given = Puppet(), {"redis_url": redis.url, "redis_prefix": secrets.token_hex(4)}
    async with at(sdk, **given) as speaking_at, at(sdk, **given) as reading_at:
        stage = Stage(sdk, speaking_at, reading_at)
        async with stage.speaker() as speaker, stage.reader() as reader:
            await stage.say(speaker, FINALS[0])
            assert await reader.recv() == FINALS[0]
            (copy,) = reading_at.app.state.readers._shares._copies.values()
            keys = f"{{{given['redis_prefix']}}}:shares:{copy.name}:"
            names = ("alive",) if lost != "everything" else shares.KEYS
            run("redis-cli", "-s", redis.url.removeprefix("unix://"), "del", *(keys + name for name in names))
            await until(lambda: copy._quiet_since is not None)
            await stage.say(speaker, *FINALS[1:])
            assert [await reader.recv() for _ in FINALS[1:]] == FINALS[1:]
            await until(lambda: copy._quiet_since is None)
            await stage.finish(speaker)
            assert await ending(reader) == ([], Close(1000, END_OF_INPUT))


async def test_the_transcript_of_a_process_that_died_ends(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its readers must not wait for ever; nobody says that it is over, but nobody says that it lives, either."""
    monkeypatch.setattr(shares, "ALIVE_SECONDS", 0.5)
    monkeypatch.setattr(shares, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr(shares, "LOOK_SECONDS", 0.1)
    died = Redis(redis.url, "died")
    async with died.running():
        writer = shares.RedisShares(died, 60.0)
        with writer.sharing("token") as transcript:
            transcript.add(FINALS[0])
            async with service(None, redis_url=redis.url, redis_prefix="died", start="builtins:iter") as server:
                await sooner_or_later(server, "/read/token.txt", 200)
                for task in writer._tasks:
                    task.cancel()
                async with client(server, "/read/token") as reader:
                    assert await ending(reader) == ([FINALS[0]], Close(1000, END_OF_INPUT))


async def test_readers_wait_for_a_speaker_whose_process_died_and_who_may_resume(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(shares, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(shares, "LOOK_SECONDS", 0.05)
    store = Redis(redis.url, "resumes")
    async with (
        store.running(),
        service(None, redis_url=redis.url, redis_prefix="resumes", start="builtins:iter") as server,
    ):
        died = shares.RedisShares(store, 60.0)
        with died.sharing("token", away_seconds=30.0) as transcript:
            transcript.add(FINALS[0])
            await sooner_or_later(server, "/read/token.txt", 200)
            for task in died._tasks:
                task.cancel()
        async with client(server, "/read/token") as reader:
            assert await reader.recv() == FINALS[0]
            (copy,) = server.app.state.readers._shares._copies.values()
            assert await store._client.pttl(store.key(f"shares:{copy.name}:alive")) > 20_000
            continues = shares.RedisShares(store, 60.0)
            with continues.sharing("token", transcript.finals, away_seconds=30.0) as rest:
                rest.add(FINALS[1])
                assert await reader.recv() == FINALS[1]
            assert await ending(reader) == ([], Close(1000, END_OF_INPUT))
            await continues.end()


async def sooner_or_later(server: Server, path: str, status: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await get(server, path))[0] != status:  # noqa: ASYNC110 # another process has no event to wait for
            await asyncio.sleep(0.02)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
