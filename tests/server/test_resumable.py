"""The server's side of resumable streams: connections come and go, and neither side loses anything."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster.record import Record
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS
from speechbridge.protocol.reading import new_token, token_of
from speechbridge.protocol.resume import FinalsReceived
from speechbridge.server import resumable
from speechbridge.server.resumable import NOT_KEPT, TAKEN_OVER, TOO_SLOW, UNKNOWN, About, ResumableConnection
from speechbridge.server.resumable_connections import ResumableConnections
from speechbridge.settings import SessionSettings
from speechbridge.tasks import cancel_and_wait
from speechbridge.testing.script import final, partial
from tests.helpers.peer import Peer
from tests.helpers.puppet import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GOOD_END = Close(1000, END_OF_INPUT)


def new(*, away_seconds: float = PATIENCE) -> ResumableConnection:
    stream = ResumableConnection(About("id"), Record("key", "", 0), away_seconds=away_seconds)
    stream._receives.set()  # its session has begun
    return stream


def finals(peer: Peer) -> list[str]:
    messages = [json.loads(text) for text in peer.got]
    return [message["elements"][0]["value"] for message in messages if message["type"] == "final"]


def positions(peer: Peer) -> list[int]:
    """Return the positions that the client was told, that of `connected` first."""
    return [message["position"] for message in map(json.loads, peer.got) if "position" in message]


@asynccontextmanager
async def serving(stream: ResumableConnection, finals: int = 0) -> AsyncIterator[Peer]:
    """Serve one connection, from its greeting on; cut it at the end, if it is still there."""
    peer = Peer()
    task = asyncio.create_task(stream.serve(peer, finals))
    try:
        await until(lambda: peer.got or peer.close_frame)
        yield peer
    finally:
        if not task.done():
            peer.leave()
        async with asyncio.timeout(PATIENCE):
            await task


async def finish(stream: ResumableConnection) -> None:
    """End what still waits for a client that is away."""
    stream.forget()


def test_what_a_newer_version_wrote_can_be_gone_on_with() -> None:
    """As while the processes of a service are replaced one by one."""
    about = About("id", read=token_of("key"), query="a=b", holder="holder", begun=1.5, frame=2)
    assert About.parse(about.encode(), "key") == about
    assert About.parse('{"session_id": "id", "of_a_newer_version": 1}', "key") == About("id")


def test_what_another_process_must_know_holds_no_token() -> None:
    assert token_of("key") not in About("id", read=token_of("key")).encode()
    assert token_of("key") != token_of("another key")
    assert len(token_of("key")) == len(new_token())


@pytest.mark.parametrize("ending", ["stored", "given up", "not kept", "over"])
async def test_a_client_gets_the_key_once_a_journal_has_the_stream_or_never_will(ending: str) -> None:
    stream = new()
    stream.record.is_stored, stream.record.is_kept = False, ending != "not kept"
    peer = Peer()
    serving = asyncio.create_task(stream.serve(peer))
    for _ in range(10):  # as many steps as it takes
        await asyncio.sleep(0)
    assert not peer.got
    receiving = None
    match ending:
        case "stored":
            stream.record.has_stored(0, 0)
        case "given up":
            assert stream.record.deliver_unstored() == 0
        case "not kept":
            receiving = asyncio.create_task(stream.receive())
        case "over":
            stream.end(GOOD_END)
    await until(lambda: peer.got)
    assert json.loads(peer.got[0])["resume"] == "key"
    peer.leave()
    await serving
    if receiving is not None:
        await cancel_and_wait(receiving)
    await finish(stream)


async def test_a_confirmed_final_is_kept_until_readers_at_other_processes_could_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resumable, "HELD_FINALS", 2)
    stream, stored = new(), 0
    stream.shared = lambda: stored
    async with serving(stream) as peer:
        for number in range(4):
            await stream.send(final(str(number)).text)
        peer.say(FinalsReceived(2).encode())
        await until(lambda: len(finals(peer)) == 4)
        assert stream.record.confirmed == 0
        stored = 1
        peer.say(FinalsReceived(2).encode())
        await until(lambda: stream.record.confirmed == 1)
        peer.say(FinalsReceived(4).encode())
        await until(lambda: stream.record.confirmed == 2)  # not more are held
    await finish(stream)


async def test_the_session_gets_messages_of_whichever_connection_in_order() -> None:
    stream = new()
    async with serving(stream) as first:
        first.say(b"one")
        assert await stream.receive() == b"one"
    async with serving(stream) as second:
        assert positions(second) == [3]
        second.say(b"two", EOS)
        assert await stream.receive() == b"two"
        assert await stream.receive() == EOS
    await finish(stream)


async def test_a_second_connection_takes_over_from_the_first() -> None:
    stream = new()
    async with serving(stream) as first, serving(stream) as second:
        await until(lambda: first.close_frame)
        assert first.close_frame == TAKEN_OVER
        assert second.close_frame is None
        second.say(b"audio")
        assert await stream.receive() == b"audio"
    await finish(stream)


async def test_of_several_that_resume_at_once_only_the_last_is_served() -> None:
    stream, peers = new(), [Peer() for _ in range(5)]
    tasks = [asyncio.create_task(stream.serve(peer)) for peer in peers]
    await until(lambda: sum(task.done() for task in tasks) == 4)
    assert [peer.close_frame for peer in peers] == [TAKEN_OVER] * 4 + [None]
    peers[-1].leave()
    await asyncio.gather(*tasks)
    await finish(stream)


async def test_a_message_that_waits_for_the_session_is_lost_with_its_connection_and_sent_again() -> None:
    """What was handed over is counted, and nothing else: the client sends on from the position that it is told."""
    stream = new()
    async with serving(stream) as first:
        first.say(b"one", b"two")  # the first waits for the session, and the second for the first
        await until(lambda: stream.record.received == 3)
        async with serving(stream) as second:
            assert positions(second) == [3]
            second.say(b"two")
            assert [await stream.receive(), await stream.receive()] == [b"one", b"two"]
    await finish(stream)


async def test_a_session_that_stops_waiting_loses_no_message() -> None:
    stream = new()
    async with serving(stream) as peer:
        waiting = asyncio.create_task(stream.receive())
        await until(lambda: not stream._arrived.is_set())
        peer.say(b"audio")
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            assert await waiting == b"audio"
            return
        assert await stream.receive() == b"audio"
    await finish(stream)


# ---- what is acknowledged, and what is kept --------------------------------------------------------------------------


async def test_audio_that_comes_with_the_greeting_is_acknowledged_too() -> None:
    stream, peer = new(), Peer()
    peer.say(b"early", EOS)
    task = asyncio.create_task(stream.serve(peer))
    assert [await stream.receive(), await stream.receive()] == [b"early", EOS]
    await until(lambda: positions(peer) == [0, 5])
    peer.leave()
    await task
    await finish(stream)


async def test_audio_is_acknowledged_now_and_then_and_at_its_end() -> None:
    stream = new()
    async with serving(stream) as peer:
        peer.say(bytes(resumable.ACKNOWLEDGE - 1))
        await stream.receive()
        peer.say(bytes(1))
        await stream.receive()
        await until(lambda: positions(peer) == [0, 8000])
        peer.say(bytes(5), EOS)
        await stream.receive()
        await stream.receive()
        await until(lambda: positions(peer) == [0, 8000, 8005])
    await finish(stream)


async def test_finals_that_were_not_confirmed_come_again_and_the_others_do_not() -> None:
    stream = new()
    for word in ("one", "two", "three"):
        await stream.send(final(word).text)
    async with serving(stream) as first:
        await until(lambda: finals(first) == ["one", "two", "three"])
        first.say(FinalsReceived(1).encode())
        await until(lambda: stream.record.confirmed == 1)
    async with serving(stream, finals=2) as second:
        await until(lambda: finals(second) == ["three"])
    await finish(stream)


@pytest.mark.parametrize("count", [0, 3])
async def test_a_count_of_finals_that_cannot_be_is_refused(count: int) -> None:
    stream = new()
    for word in ("one", "two"):
        await stream.send(final(word).text)
    async with serving(stream, finals=1):
        pass
    async with serving(stream, finals=count) as peer:
        assert (peer.got, peer.close_frame) == ([], NOT_KEPT)
    await finish(stream)


async def test_a_client_that_was_refused_does_not_disturb_the_one_that_is_served() -> None:
    stream = new()
    async with serving(stream) as served:
        async with serving(stream, finals=7) as refused:
            assert refused.close_frame == NOT_KEPT
        served.say(b"audio")
        assert await stream.receive() == b"audio"
    await finish(stream)


async def test_a_slow_reader_gets_every_final_and_the_latest_partial_only() -> None:
    stream = new()
    async with serving(stream) as peer:
        peer.reads.clear()
        await stream.send(partial("being sent").text)
        await until(lambda: not stream._changed.is_set())
        for message in (partial("old"), final("one"), partial("older"), final("two"), partial("latest")):
            await stream.send(message.text)
        peer.reads.set()
        await until(lambda: "latest" in peer.got[-1])
    assert finals(peer) == ["one", "two"]
    assert not any("old" in text for text in peer.got)
    await finish(stream)


async def test_a_client_that_confirms_no_final_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "KEPT_FINALS", 2)
    stream = new()
    async with serving(stream) as peer:
        for word in ("one", "two", "three"):
            await stream.send(final(word).text)
        assert await stream.receive() is None
        stream.end(GOOD_END)
        await until(lambda: peer.close_frame)
    assert finals(peer) == ["one", "two"]
    assert peer.close_frame == TOO_SLOW
    await finish(stream)


async def test_what_is_kept_for_a_client_is_bounded_in_characters_too(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(final("one").text)
    monkeypatch.setattr(resumable, "KEPT_CHARACTERS", 2 * size)
    stream = new()
    async with serving(stream) as peer:
        await stream.send(final("one").text)
        await stream.send(final("two").text)
        await until(lambda: finals(peer) == ["one", "two"])
        peer.say(FinalsReceived(1).encode())
        await until(lambda: stream.record.confirmed == 1)
        await stream.send(final("six").text)  # there is room again
        await until(lambda: finals(peer) == ["one", "two", "six"])
        await stream.send(final("ten").text)
        assert await stream.receive() is None
    await finish(stream)


async def test_a_flood_of_confirmations_closes_its_connection_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resumable, "CONFIRMATIONS", 10)
    stream = new()
    async with serving(stream) as peer:
        peer.say(*[FinalsReceived(0).encode()] * 30)
        await until(lambda: peer.close_frame)
    assert peer.close_frame is not None
    assert peer.close_frame.code == 1008
    async with serving(stream) as second:
        second.say(b"audio")
        assert await stream.receive() == b"audio"
    await finish(stream)


async def test_a_response_that_no_connection_can_send_is_refused_when_it_comes() -> None:
    with pytest.raises(UnicodeEncodeError):
        await new().send("\ud83d")


# ---- away, and the end -----------------------------------------------------------------------------------------------


async def test_a_client_that_is_away_for_too_long_has_left() -> None:
    stream = new(away_seconds=0)
    async with serving(stream):
        pass
    async with asyncio.timeout(PATIENCE):
        assert await stream.receive() is None


async def test_a_client_that_closes_on_purpose_has_left_at_once() -> None:
    stream = new()
    async with serving(stream) as peer:
        peer.leave(cleanly=True)
        async with asyncio.timeout(PATIENCE):
            assert await stream.receive() is None
    await finish(stream)


async def test_a_client_that_resumes_in_time_has_not_left() -> None:
    stream = new()
    async with serving(stream):
        pass
    away = stream._away
    assert away is not None
    async with serving(stream) as peer:
        assert away.cancelled()
        peer.say(b"audio")
        assert await stream.receive() == b"audio"
    await finish(stream)


async def test_results_that_come_while_the_client_is_away_after_its_end_are_sent_when_it_resumes() -> None:
    stream = new()
    async with serving(stream) as first:
        first.say(b"audio", EOS)
        await stream.receive()
        await stream.receive()
    await stream.send(final("last").text)
    stream.end(GOOD_END)
    async with serving(stream) as second:
        await until(lambda: second.close_frame)
    assert finals(second) == ["last"]
    assert second.close_frame == GOOD_END
    async with serving(stream, finals=1) as third:  # the close frame itself was lost
        await until(lambda: third.close_frame)
    assert (finals(third), third.close_frame) == ([], GOOD_END)
    await finish(stream)


async def test_what_is_sent_after_the_session_has_ended_is_dropped() -> None:
    """A client that breaks the protocol in one message after the other left the last of them in memory."""
    stream = new()
    async with serving(stream) as peer:
        peer.reads.clear()  # so that the connection outlives the session
        await stream.send(final("last").text)
        peer.say(b"one", b"two")
        await until(lambda: stream.record.received == 3)
        stream.end(GOOD_END)
        peer.say(b"three")
        await until(peer._messages.empty)
        assert stream._message is None
        assert stream.record.received == 3
        peer.reads.set()
        await until(lambda: peer.close_frame)
    await finish(stream)


async def test_one_that_resumes_too_late_is_not_told_that_all_was_received() -> None:
    """It has not ended its audio: the upstream's good end is none for this client."""
    stream = new(away_seconds=0)
    async with serving(stream):
        pass
    assert await stream.receive() is None
    stream.end(GOOD_END)
    async with serving(stream) as late:
        await until(lambda: late.close_frame)
    assert late.close_frame == UNKNOWN
    await finish(stream)


async def test_a_connection_that_is_given_up_leaves_the_stream_to_the_next() -> None:
    stream, peer = new(), Peer()
    task = asyncio.create_task(stream.serve(peer))
    await until(lambda: peer.got)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with serving(stream) as second:
        second.say(b"audio")
        assert await stream.receive() == b"audio"
    await finish(stream)


# ---- all of them -----------------------------------------------------------------------------------------------------


def all_streams(**settings: float) -> ResumableConnections:
    return ResumableConnections(SessionSettings.model_validate(settings))


async def good_end() -> Close:
    return GOOD_END


def test_a_stream_is_resumed_only_by_the_owner_of_the_key_that_began_it() -> None:
    streams = all_streams()
    stream = streams.begin(About("id"), "alice")
    assert streams.find(stream.record.key, "alice") is stream
    assert streams.find(stream.record.key, "bob") is None
    assert streams.find(stream.record.key) is None


async def test_a_stream_is_found_by_its_key_until_its_client_was_away_too_long() -> None:
    streams = all_streams(resume_seconds=0)
    stream = streams.begin(About("id"))
    assert streams.find(stream.record.key) is stream
    assert streams.find("another") is None
    streams.run(stream, good_end())
    await stream.over.wait()
    await until(lambda: streams.find(stream.record.key) is None)


async def test_of_many_that_have_ended_the_oldest_are_evicted_and_none_that_runs() -> None:
    streams = all_streams(max_sessions=2, resume_seconds=0.2)
    running = streams.begin(About("running"))
    ended = [streams.begin(About(str(number))) for number in range(4)]
    for stream in ended:
        streams.run(stream, good_end())
        await stream.over.wait()
    await until(lambda: not streams._sessions)
    assert [streams.find(stream.record.key) for stream in ended] == [None, None, ended[2], ended[3]]
    assert streams.find(running.record.key) is running


async def test_a_session_that_is_cancelled_ends_its_stream() -> None:
    streams = all_streams(resume_seconds=0)
    stream = streams.begin(About("id"))

    async def session() -> Close:
        await asyncio.Event().wait()
        return GOOD_END

    streams.run(stream, session())
    [task] = streams._sessions.values()
    await asyncio.sleep(0)
    task.cancel()
    await until(stream.over.is_set)
    async with serving(stream) as peer:
        await until(lambda: peer.close_frame)
    assert peer.close_frame == Close(1011, "the stream was cut")
    await until(lambda: streams.find(stream.record.key) is None)
    await finish(stream)
