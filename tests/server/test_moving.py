"""A stream goes on at another process of the service, for its client and for those who read along."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.cluster import FULL
from speechbridge.cluster.redis import journal
from speechbridge.cluster.redis.shares import _Writer
from speechbridge.engines import Engine, Upstream
from speechbridge.engines.options import start_of
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS, Element, Final
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.protocol.resume import FinalsReceived, Resume
from speechbridge.recognizer.server import serving
from speechbridge.server import places, resumable_connections
from speechbridge.server.resumable import NOT_KEPT
from speechbridge.testing.script import Accept, End, Greet, Scripted, Wait, final
from tests.helpers.encoded import EXACT_WEBM, encoded
from tests.helpers.puppet import until
from tests.helpers.redis import redis_server
from tests.helpers.service import PATIENCE, STREAM, client, ending, service, service_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from speechbridge.cluster import Answer
    from speechbridge.server.run import Server

SECOND = 32000  # bytes
RESUMABLE = f"{STREAM}&resume=true"

pytestmark = pytest.mark.slow


def second_by_second() -> Engine:
    """An engine that answers each second of audio with a final of its first byte."""

    def opened(request: StreamRequest) -> Upstream:
        def start(audio: Iterator[bytes]) -> Iterator[str]:
            begun, waiting = start_of(request), b""
            for chunk in audio:
                waiting += chunk
                while len(waiting) >= SECOND:
                    word, waiting = str(waiting[0]), waiting[SECOND:]
                    yield Final(begun, begun + 1, (Element(word, "text", begun, begun + 1),)).encode()
                    begun += 1

        return Upstream(start, lambda: None, b"".join)

    return Engine("seconds", opened, settled=settled_by_final)


def service_of_seconds(**settings: object) -> AbstractAsyncContextManager[Server]:
    return service_of(second_by_second(), **settings)


@asynccontextmanager
async def replicas(
    folder: Path,
    first: Callable[..., AbstractAsyncContextManager[Server]] = service_of_seconds,
    second: Callable[..., AbstractAsyncContextManager[Server]] = service_of_seconds,
    **settings: object,
) -> AsyncIterator[tuple[Server, Server]]:
    with redis_server(folder) as redis:
        async with first(redis_url=redis.url, **settings) as one, second(redis_url=redis.url, **settings) as other:
            yield one, other


def said(number: int, length: int = SECOND) -> bytes:
    return bytes([number]) * length


async def heard(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Read up to the next message of a kind."""
    while (message := json.loads(await socket.recv()))["type"] != kind:
        pass
    return dict(message)


def words(messages: list[str | bytes]) -> list[str]:
    finals = [message for message in map(json.loads, messages) if message["type"] == "final"]
    return [f"{message['elements'][0]['value']}@{message['ts']:g}" for message in finals]


def resuming(key: object, finals: int) -> str:
    return f"{STREAM.partition('?')[0]}?{Resume(str(key), finals).query()}"


async def cut_off(server: Server, audio: bytes, path: str = RESUMABLE) -> dict[str, Any]:
    """Begin a stream, and lose its connection after the first final; return its greeting."""
    async with client(server, path) as socket:
        greeting = await heard(socket, "connected")
        await socket.send(audio)
        await heard(socket, "final")
        socket.transport.abort()
    return greeting


async def goes_on(server: Server, key: str, rest: bytes) -> tuple[list[str], Close]:
    """Resume a stream with one final at a server, and end it; return the other finals, and how it closed."""
    async with client(server, resuming(key, 1)) as socket:
        await heard(socket, "connected")
        await socket.send(rest)
        await socket.send(EOS)
        messages, close = await ending(socket)
    return words(messages), close


async def test_a_client_that_was_cut_off_goes_on_at_another_process_while_the_first_lives(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second):
        async with client(first, RESUMABLE) as socket:
            greeting = await heard(socket, "connected")
            await socket.send(said(1) + said(2, SECOND // 2))
            await heard(socket, "final")
            while (await heard(socket, "received"))["position"] != SECOND + SECOND // 2:
                pass
            socket.transport.abort()
        async with client(second, resuming(greeting["resume"], 1)) as socket:
            again = await heard(socket, "connected")
            assert (again["resume"], again["id"]) == (greeting["resume"], greeting["id"])
            assert again["position"] == SECOND + SECOND // 2
            await socket.send(said(2, SECOND // 2) + said(3))
            await socket.send(EOS)
            messages, close = await ending(socket)
        assert words(messages) == ["2@1", "3@2"]
        assert close == Close(1000, END_OF_INPUT)
        assert (first.app.state.resumable.released, second.app.state.resumable.taken) == (1, 1)
        assert not first.app.state.sessions.alive


async def test_so_does_one_whose_samples_look_like_another_format_where_it_was_cut(tmp_path: Path) -> None:
    half = b"G\0" * (SECOND // 4)  # like an MPEG transport stream, each packet of which begins with a G
    async with replicas(tmp_path) as (first, second):
        async with client(first, RESUMABLE) as socket:
            greeting = await heard(socket, "connected")
            await socket.send(said(1) + half)
            while (await heard(socket, "received"))["position"] < SECOND + len(half):
                pass
            socket.transport.abort()
        assert await goes_on(second, greeting["resume"], half) == (["71@1"], Close(1000, END_OF_INPUT))


async def test_a_key_is_known_at_every_process_from_the_moment_its_client_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WRITE_SECONDS", 0.5)  # so the second stream begins while the journal pauses
    async with replicas(tmp_path) as (first, second), client(first, RESUMABLE) as earlier:
        await heard(earlier, "connected")
        async with client(first, RESUMABLE) as socket:
            greeting = await heard(socket, "connected")
            async with client(second, resuming(greeting["resume"], 0)) as again:
                assert (await heard(again, "connected"))["id"] == greeting["id"]


async def test_a_failed_connect_of_a_stream_that_was_answered_before_is_tried_again(tmp_path: Path) -> None:
    """At a process that has not connected before, a speech service that does not answer could be a wrong address."""
    upstream = Scripted(
        (Greet(), Wait(audio=SECOND), final("one", end_ts=1.0), Wait()),
        (Wait(), Accept()),  # does not answer the handshake
        (Greet(), Wait(eos=True), final("two", ts=1.0, end_ts=2.0), End(1000, END_OF_INPUT)),
    )
    of_settings = partial(service, None)
    async with (
        serving(upstream, handshake_timeout=None) as far,
        replicas(tmp_path, of_settings, of_settings, revai_url=far.url, connect_seconds=0.5) as (first, second),
    ):
        greeting = await cut_off(first, said(1))
        assert await goes_on(second, greeting["resume"], said(2)) == (["two@1"], Close(1000, END_OF_INPUT))
    assert len(upstream.clients) == 3


@pytest.mark.parametrize("media", ["audio/webm", ""])
async def test_so_does_one_whose_audio_is_decoded(media: str, tmp_path: Path) -> None:
    """All of it is decoded once more, and what was settled is not said again."""
    sent = encoded(b"".join(said(number) for number in range(1, 6)), EXACT_WEBM)
    path = RESUMABLE.replace("content_type=audio%2Fx-raw", "x=") + (f"&content_type={media}" if media else "")
    async with replicas(tmp_path) as (first, second):
        greeting = await cut_off(first, sent[: len(sent) // 2], path)
        async with client(second, resuming(greeting["resume"], 1)) as socket:
            position = (await heard(socket, "connected"))["position"]
            assert position == len(sent) // 2
            await socket.send(sent[position:])
            await socket.send(EOS)
            messages, close = await ending(socket)
        assert words(messages) == ["2@1", "3@2", "4@3", "5@4"]
        assert close == Close(1000, END_OF_INPUT)


async def test_one_of_which_too_much_would_have_to_be_kept_cannot_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable_connections, "ROOM", 1000)
    sent = encoded(said(1) + said(2), EXACT_WEBM)
    path = RESUMABLE.replace("content_type=audio%2Fx-raw", "x=")
    async with replicas(tmp_path) as (first, second), client(first, path) as socket:
        greeting = await heard(socket, "connected")
        for start in range(0, len(sent), 500):
            await socket.send(sent[start : start + 500])
        await heard(socket, "final")
        await until(lambda: not first.app.state.resumable.find(greeting["resume"]).record.is_kept)
        async with client(second, resuming(greeting["resume"], 1)) as elsewhere:
            assert (await ending(elsewhere))[1].code == 4002
        await socket.send(EOS)
        assert (await ending(socket))[1] == Close(1000, END_OF_INPUT)


async def test_one_that_comes_back_after_the_end_gets_the_rest_anywhere(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second):
        async with client(first, RESUMABLE) as socket:
            greeting = await heard(socket, "connected")
            await socket.send(said(1) + said(2))
            await socket.send(EOS)
            await ending(socket)
        async with client(second, resuming(greeting["resume"], 1)) as socket:
            await heard(socket, "connected")
            messages, close = await ending(socket)
        assert words(messages) == ["2@1"]
        assert close == Close(1000, END_OF_INPUT)
        assert second.app.state.sessions.alive == 0


async def test_a_process_that_drains_hands_its_streams_over_and_says_so(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second), client(first, RESUMABLE) as socket:
        greeting = await heard(socket, "connected")
        await socket.send(said(1) + said(2, SECOND // 2))
        await heard(socket, "final")
        draining = asyncio.create_task(first.app.state.sessions.drain())
        _, close = await ending(socket)
        assert close.code == 4010
        await draining
        async with client(second, resuming(greeting["resume"], 1)) as again:
            position = (await heard(again, "connected"))["position"]
            assert position == SECOND + SECOND // 2
            await again.send(said(2, SECOND // 2))
            await again.send(EOS)
            messages, close = await ending(again)
        assert words(messages) == ["2@1"]
        assert close == Close(1000, END_OF_INPUT)


async def test_one_that_waits_for_a_process_that_does_not_answer_is_told_when_its_own_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def waits(*_: object) -> list[str]:
        asked.set()
        return ["wait"]

    async with replicas(tmp_path) as (first, second):
        key = (await cut_off(first, said(1)))["resume"]
        with monkeypatch.context() as stopped:
            stopped.setattr(journal.RedisJournal, "_take", waits)
            async with client(second, resuming(key, 1)) as socket:
                await asked.wait()
                second.stop()
                assert (await ending(socket))[1].code == 4010
        assert (await goes_on(first, key, said(2))) == (["2@1"], Close(1000, END_OF_INPUT))


async def test_one_that_comes_to_a_process_that_cannot_serve_it_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then goes on, wherever it comes."""
    monkeypatch.setattr(places, "ADOPT_SECONDS", 0.0)
    async with replicas(tmp_path, account_streams=1) as (first, second):
        greeting = await cut_off(first, said(1) + said(2, SECOND // 2))
        with monkeypatch.context() as no_place:
            no_place.setattr(places.Places, "ask", _full)
            async with client(second, resuming(greeting["resume"], 1)) as socket:
                assert (await ending(socket))[1].code == 1013
        assert await goes_on(second, greeting["resume"], said(2, SECOND // 2)) == (["2@1"], Close(1000, END_OF_INPUT))


async def test_so_is_one_that_comes_where_all_streams_are_taken(tmp_path: Path) -> None:
    async with replicas(tmp_path, max_sessions=1, max_connections=9) as (first, second):
        greeting = await cut_off(first, said(1))
        pool = second.app.state.sessions.pool
        slot = pool.try_acquire()
        assert slot is not None
        async with client(second, resuming(greeting["resume"], 1)) as socket:
            assert (await ending(socket))[1].code == 1013
        slot.run(lambda: None, name="free again", done=lambda: None)
        await until(lambda: pool.active == 0)
        assert await goes_on(second, greeting["resume"], said(2)) == (["2@1"], Close(1000, END_OF_INPUT))


async def _full(*_: object) -> tuple[Answer, None]:
    return FULL, None


async def test_one_that_has_moved_counts_where_it_is(tmp_path: Path) -> None:
    async with replicas(tmp_path, max_connections=2, max_sessions=2) as (first, second):
        greeting = await cut_off(first, said(1))
        async with AsyncExitStack() as stack:
            socket = await stack.enter_async_context(client(second, resuming(greeting["resume"], 1)))
            await heard(socket, "connected")
            another = await stack.enter_async_context(client(first, RESUMABLE))
            await heard(another, "connected")
            for server in (first, second):
                refused = await stack.enter_async_context(client(server, RESUMABLE))
                assert (await ending(refused))[1].code == 4029
            for open_one in (socket, another):
                await open_one.send(EOS)
                await ending(open_one)


async def test_its_audio_counts_once(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second), client(first, RESUMABLE) as socket:
        greeting = await heard(socket, "connected")
        await socket.send(said(1) + said(2, SECOND // 2))
        await heard(socket, "final")
        while (await heard(socket, "received"))["position"] < SECOND + SECOND // 2:
            pass
        socket.transport.abort()
        assert (await goes_on(second, greeting["resume"], said(2, SECOND // 2)))[1].code == 1000
        before, after = [server.app.state.sessions.statistics().totals for server in (first, second)]
        both = before + after
        assert (before.received, after.received) == (1.5, 0.5)
        assert both.received_bytes == 2 * SECOND
        assert (both.received, both.given, both.lost) == (2, 2, 0)
        assert after.replayed == 0.5


async def test_what_a_process_had_not_given_is_not_lost_if_another_one_gives_it(tmp_path: Path) -> None:
    goes = threading.Event()

    def takes_nothing_yet(audio: Iterator[bytes]) -> Iterator[str]:
        goes.wait(PATIENCE)
        yield from second_by_second().open(StreamRequest(ContentType.raw())).start(audio)

    opened = Engine("late", lambda _: Upstream(takes_nothing_yet, goes.set, b"".join), settled=settled_by_final)
    async with replicas(tmp_path, partial(service_of, opened)) as (first, second):
        async with client(first, RESUMABLE) as socket:
            greeting = await heard(socket, "connected")
            await socket.send(said(1))
            await heard(socket, "received")
            socket.transport.abort()
        async with client(second, resuming(greeting["resume"], 0)) as socket:
            assert (await heard(socket, "connected"))["position"] == SECOND
            await socket.send(EOS)
            messages, close = await ending(socket)
        assert words(messages) == ["1@0"]
        assert close.code == 1000
        both = first.app.state.sessions.statistics().totals + second.app.state.sessions.statistics().totals
        assert (both.received, both.given, both.lost) == (1, 1, 0)


async def test_those_who_read_along_miss_nothing(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second):
        async with client(first, f"{RESUMABLE}&share=true") as socket:
            greeting = await heard(socket, "connected")
            await socket.send(said(1))
            await heard(socket, "final")
            await socket.send(FinalsReceived(1).encode())
            socket.transport.abort()
        async with client(second, f"/read/{greeting['read']}") as reader:
            assert words([await reader.recv()]) == ["1@0"]
            async with client(second, resuming(greeting["resume"], 1)) as socket:
                assert (await heard(socket, "connected"))["read"] == greeting["read"]
                await socket.send(said(2))
                await socket.send(EOS)
                await ending(socket)
            messages, close = await ending(reader)
            assert words(messages) == ["2@1"]
            assert close.code == 1000
        for server in (first, second):
            async with client(server, f"/read/{greeting['read']}") as late:
                assert words((await ending(late))[0]) == ["1@0", "2@1"]


@pytest.mark.parametrize("has", [0, 1])  # finals that the client has
async def test_nor_a_final_that_the_speakers_process_had_stored_and_not_shared_when_it_died(
    has: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Writer, "run", partial(asyncio.sleep, 0))  # the first process shares nothing
    async with replicas(tmp_path) as (first, second):
        greeting = await cut_off(first, said(1), f"{RESUMABLE}&share=true")
        monkeypatch.undo()
        async with client(second, resuming(greeting["resume"], has)) as socket:
            await heard(socket, "connected")
            async with client(second, f"/read/{greeting['read']}") as reader:
                await socket.send(said(2))
                await socket.send(EOS)
                await ending(socket)
                assert words((await ending(reader))[0]) == ["1@0", "2@1"]
        async with client(first, f"/read/{greeting['read']}") as late:
            assert words((await ending(late))[0]) == ["1@0", "2@1"]


async def test_nor_one_that_the_client_had_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Writer, "run", partial(asyncio.sleep, 0))  # the first process shares nothing
    async with replicas(tmp_path) as (first, second):
        async with client(first, f"{RESUMABLE}&share=true") as socket:
            greeting = await heard(socket, "connected")
            await socket.send(said(1))
            await heard(socket, "final")
            await socket.send(FinalsReceived(1).encode())
            await socket.send(said(2, SECOND // 2))
            while (await heard(socket, "received"))["position"] != SECOND + SECOND // 2:
                pass  # the confirmation came before that audio
            socket.transport.abort()
        monkeypatch.undo()
        assert await goes_on(second, greeting["resume"], said(2, SECOND // 2)) == (["2@1"], Close(1000, END_OF_INPUT))
        async with client(second, f"/read/{greeting['read']}") as late:
            assert words((await ending(late))[0]) == ["1@0", "2@1"]


async def test_a_count_of_finals_that_cannot_be_is_refused_anywhere_and_does_no_harm(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second):
        key = (await cut_off(first, said(1)))["resume"]
        for server in (second, first):
            async with client(server, resuming(key, 7)) as socket:
                assert await ending(socket) == ([], NOT_KEPT)
        assert await goes_on(second, key, said(2)) == (["2@1"], Close(1000, END_OF_INPUT))


async def test_a_key_of_another_owner_is_not_known_elsewhere_either(tmp_path: Path) -> None:
    async with replicas(tmp_path) as (first, second), client(first, RESUMABLE) as socket:
        greeting = await heard(socket, "connected")
        await socket.send(said(1))
        await heard(socket, "final")
        assert not await second.app.state.resumable.take(greeting["resume"], "another", 0, pytest.fail)
        async with client(second, resuming("no such key", 0)) as stranger:
            assert (await ending(stranger))[1].code == 4002


async def test_the_account_counts_a_stream_once_wherever_it_is(tmp_path: Path) -> None:
    async with replicas(tmp_path, account_streams=1) as (first, second):
        greeting = await cut_off(first, said(1))
        async with client(second, resuming(greeting["resume"], 1)) as socket:
            await heard(socket, "connected")
            await until(lambda: second.app.state.sessions.places.held == 1)
            assert first.app.state.sessions.places.held == 0
            async with client(first, RESUMABLE) as another:
                assert (await ending(another))[1].code == 4029
            await socket.send(EOS)
            await ending(socket)
