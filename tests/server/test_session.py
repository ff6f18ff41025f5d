"""A session between a scripted client and a scripted SDK: every way for it to end, and what becomes of its audio."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from speechbridge.engines import Upstream, UpstreamClosed
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS, Element, Final, Partial
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.server import intake, verdicts
from speechbridge.server.sending import CHUNK, Sender
from speechbridge.server.session import LARGE, Sessions
from speechbridge.settings import SessionSettings
from tests.helpers.peer import Peer
from tests.helpers.puppet import PATIENCE, Puppet, SdkError, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from speechbridge.server.totals import Outcome

RAW = StreamRequest(ContentType.raw())
PLANAR = ContentType("audio/x-raw", "non-interleaved", 16000, "F32LE", 2)  # which the SDK gets as it is


def sessions_of(sdk: Puppet, **settings: float) -> Sessions:
    """Return sessions whose upstream is a scripted SDK."""
    return Sessions(
        lambda _request: Upstream(sdk.start, sdk.abort),  # type: ignore[arg-type] # it passes anything on
        SessionSettings.model_validate({"max_sessions": 3, "drain_seconds": PATIENCE, **settings}),
    )


@dataclass
class Stage:
    """One session that runs."""

    sessions: Sessions
    sdk: Puppet
    client: Peer
    running: asyncio.Task[Close]

    async def close(self) -> Close:
        """Return how the session tells its connection to close."""
        async with asyncio.timeout(PATIENCE):
            return await self.running

    def ended(self) -> dict[str, int]:
        """Return how many sessions have ended, by outcome."""
        return {outcome: count for outcome, count in self.sessions.statistics().ended.items() if count}


@asynccontextmanager
async def stage(sdk: Puppet | None = None, request: StreamRequest = RAW, **settings: float) -> AsyncIterator[Stage]:
    sdk, client = sdk or Puppet(), Peer()
    sessions = sessions_of(sdk, **settings)
    running = asyncio.create_task(sessions.run(client, request))
    try:
        await until(lambda: sessions.statistics().bridges or running.done())
        yield Stage(sessions, sdk, client, running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# ---- the verdicts ----------------------------------------------------------------------------------------------------


async def ends_its_input(on: Stage) -> None:
    on.sdk.pull()
    on.client.say(b"audio", EOS)
    await until(on.sdk.feed_ended.is_set)
    on.sdk.say("last")
    on.sdk.finish()


async def is_finished_by_its_sdk_too_early(on: Stage) -> None:
    on.sdk.finish()


async def leaves(on: Stage) -> None:
    on.sdk.pull()
    on.client.say(b"audio")
    on.client.leave()
    await until(on.sdk.feed_ended.is_set)
    on.sdk.finish()


async def leaves_and_its_sdk_never_ends(on: Stage) -> None:
    on.sessions.drain_seconds = 0
    on.client.leave()


async def breaks_the_protocol(on: Stage) -> None:
    on.client.say(b"audio", "eos")


async def is_ended_by_the_upstream(on: Stage) -> None:
    on.sdk.fail(UpstreamClosed(Close(4003, "no credits")))


async def is_ended_by_the_upstream_with_a_code_that_may_not_be_sent(on: Stage) -> None:
    on.sdk.fail(UpstreamClosed(Close(1006)))


async def is_broken_by_its_sdk(on: Stage) -> None:
    on.sdk.fail(SdkError("a secret"))


async def is_broken_by_a_timeout_of_its_sdk(on: Stage) -> None:
    """It is no timeout of ours."""
    on.sdk.fail(TimeoutError())


async def has_a_listener_that_fails(on: Stage) -> None:
    on.client.fail(ZeroDivisionError())


async def is_drained(on: Stage) -> None:
    on.sdk.pull()
    draining = asyncio.create_task(on.sessions.drain())
    await until(on.sdk.feed_ended.is_set)
    on.sdk.say("last")
    on.sdk.finish()
    await draining


async def is_drained_and_its_sdk_never_ends(on: Stage) -> None:
    await on.sessions.drain(0)


async def is_drained_and_does_not_read(on: Stage) -> None:
    on.client.reads.clear()
    on.sdk.say("unread")
    await on.sessions.drain(0)


EARLY = Close(1011, "the speech SDK ended early: the SDK finished before its input ended; 0 items were not taken")

ENDINGS: list[tuple[Callable[[Stage], Awaitable[None]], Outcome, Close]] = [
    (ends_its_input, "completed", Close(1000, END_OF_INPUT)),
    (is_finished_by_its_sdk_too_early, "upstream", EARLY),
    (leaves, "left", Close(1000, END_OF_INPUT)),
    (leaves_and_its_sdk_never_ends, "left", Close(1011, "the stream was cut")),
    (breaks_the_protocol, "invalid", Close(1007, "send audio as binary messages, then the text EOS")),
    (is_ended_by_the_upstream, "upstream", Close(4003, "no credits")),
    (is_ended_by_the_upstream_with_a_code_that_may_not_be_sent, "upstream", Close(1011)),
    (is_broken_by_its_sdk, "failed", Close(1011, "the speech SDK failed: SdkError")),
    (is_broken_by_a_timeout_of_its_sdk, "failed", Close(1011, "the speech SDK failed: TimeoutError")),
    (has_a_listener_that_fails, "failed", Close(1011, "the service failed")),
    (is_drained, "drained", verdicts.DRAINED[1]),
    (is_drained_and_its_sdk_never_ends, "drained", verdicts.DRAINED[1]),
    (is_drained_and_does_not_read, "drained", verdicts.DRAINED[1]),
]


@pytest.mark.parametrize(("act", "outcome", "close"), ENDINGS, ids=[act.__name__ for act, _, _ in ENDINGS])
async def test_every_ending_has_its_outcome_and_its_close_frame(
    act: Callable[[Stage], Awaitable[None]], outcome: Outcome, close: Close
) -> None:
    async with stage() as on:
        await act(on)
        assert await on.close() == close
        assert on.ended() == {outcome: 1}
        assert on.sessions.alive == on.sessions.pool.active == 0


async def test_a_stream_that_reaches_the_longest_duration_sends_its_last_results() -> None:
    async with stage(session_seconds=0.001) as on:
        on.sdk.pull()
        await until(on.sdk.feed_ended.is_set)
        on.sdk.say("last")
        on.sdk.finish()
        assert await on.close() == verdicts.TOO_LONG[1]
        assert on.client.got == ["last"]
        assert on.ended() == {"limited": 1}


async def test_without_a_free_worker_it_is_refused_at_once() -> None:
    sessions = sessions_of(Puppet(), max_sessions=1)
    taken = sessions.pool.try_acquire()
    assert taken
    assert await sessions.run(Peer(), RAW) == Close(4029, "all 1 streams are in use: try again when one has ended")
    assert sessions.statistics().ended["refused"] == 1
    taken._free()


async def test_while_the_service_drains_none_begins() -> None:
    sessions = sessions_of(Puppet())
    await sessions.drain()
    assert await sessions.run(Peer(), RAW) == verdicts.DRAINED[1]
    assert not any(sessions.statistics().ended.values())


async def test_a_cancelled_session_aborts_its_sdk() -> None:
    async with stage() as on:
        on.running.cancel()
        with suppress(asyncio.CancelledError):
            await on.running
        assert on.sdk.aborts == 1
        assert on.ended() == {"cancelled": 1}


async def test_a_drain_waits_for_the_last_session() -> None:
    async with stage() as on:
        on.sdk.pull()
        draining = asyncio.create_task(on.sessions.drain())
        await until(on.sdk.feed_ended.is_set)
        assert not draining.done()
        on.sdk.finish()
        async with asyncio.timeout(PATIENCE):
            await draining
        assert on.running.done() or on.sessions.alive == 0


# ---- the messages ----------------------------------------------------------------------------------------------------


async def test_the_greeting_comes_first_and_has_the_sessions_id() -> None:
    sdk, client = Puppet(), Peer()
    sessions = sessions_of(sdk)
    sdk.say("early")
    sdk.finish()

    async def greet(session_id: str) -> None:
        await client.send(f"hello {session_id}")

    await sessions.run(client, RAW, greet, session_id="mine")
    assert client.got == ["hello mine", "early"]


async def test_large_messages_are_fed_in_chunks_empty_ones_not_at_all_and_none_after_the_end() -> None:
    async with stage() as on:
        on.sdk.pull()
        on.client.say(bytes(2 * CHUNK + 1), b"", b"end", EOS, b"late")
        await until(on.sdk.feed_ended.is_set)
        assert [len(chunk) for chunk in on.sdk.taken] == [CHUNK, CHUNK, 1, 3]  # type: ignore[arg-type] # all are bytes
        on.sdk.finish()
        await on.close()
        totals = on.sessions.statistics().totals
    assert totals.received_bytes == 2 * CHUNK + 4
    assert totals.given == totals.received
    assert totals.lost == 0


async def test_audio_that_the_sdk_did_not_take_is_counted_as_lost() -> None:
    async with stage() as on:
        on.client.say(bytes(16000), bytes(16000))
        await until(lambda: on.sessions.statistics().bridges[0].sent == 2)
        on.sdk.take()
        on.sdk.say("took one")
        await until(lambda: on.client.got)
        assert on.sessions.statistics().totals.lost == 0  # the SDK may still take it
        on.sdk.finish()
        await on.close()
        assert on.sessions.statistics().totals.lost == 0.5


async def test_responses_are_counted_by_kind() -> None:
    async with stage() as on:
        for response in ('{"type": "partial"}', '{"type": "final"}', '{"type": "final"}', "neither"):
            on.sdk.say(response)
        on.sdk.finish()
        await on.close()
        totals = on.sessions.statistics().totals
    assert (totals.partials, totals.finals, totals.others) == (1, 2, 1)


@pytest.mark.parametrize(
    ("request_", "collect_from", "expected"),
    [
        (RAW, 1, [3200, 640]),  # 3,200 bytes are 100 ms
        (RAW, 2, [640] * 6),  # few sessions
        (StreamRequest(PLANAR), 1, [640] * 6),  # its byte rate is not known
    ],
)
async def test_with_many_sessions_short_messages_are_collected_until_a_piece_of_100_ms_is_full(
    request_: StreamRequest, collect_from: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Sender.send

    async def send(sender: Sender, audio: bytes, hold: float = 0.0) -> None:
        await real(sender, audio, hold and 60.0)  # so that no slow machine ends it

    monkeypatch.setattr(Sender, "send", send)
    monkeypatch.setattr(intake, "COLLECT_FROM", collect_from)
    async with stage(request=request_) as on:
        on.sdk.pull()
        on.client.say(*[bytes(640)] * 6, EOS)
        await until(on.sdk.feed_ended.is_set)
        on.sdk.finish()
        await on.close()
    assert [len(piece) for piece in on.sdk.taken if isinstance(piece, bytes)] == expected


async def test_the_last_log_line_tells_how_late_captions_came(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with stage() as on:
        on.sdk.pull()
        on.client.say(bytes(32000))
        await until(lambda: on.sdk.taken)
        on.sdk.say(Partial(0.0, 0.5, (Element("one"),)).encode())
        on.sdk.say(Final(0.0, 1.0, (Element("one"),)).encode())
        on.sdk.say(Final(0.0, 1.0).encode())
        on.client.say(EOS)
        on.sdk.finish()
        await on.close()
    (last,) = [record.__dict__ for record in caplog.records if "closed with" in record.getMessage()]
    assert 0 <= last["partial_delay"] <= last["final_delay"] < PATIENCE


async def test_audio_whose_seconds_are_not_known_has_no_delays(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with stage(request=StreamRequest(PLANAR)) as on:
        on.sdk.pull()
        on.client.say(bytes(32000))
        on.sdk.say(Final(0.0, 1.0, (Element("one"),)).encode())
        on.client.say(EOS)
        on.sdk.finish()
        await on.close()
    (last,) = [record.__dict__ for record in caplog.records if "closed with" in record.getMessage()]
    assert "final_delay" not in last


async def test_large_responses_leave_others_their_turn_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes milliseconds to read, and 16 came in one turn of the loop: nobody else was served for a second."""
    async with stage() as on:
        may_send, turn, at = asyncio.Event(), 0, []

        async def send(text: str) -> None:
            await may_send.wait()
            at.append((turn, len(text)))

        monkeypatch.setattr(on.client, "send", send)
        for _ in range(8):
            on.sdk.say("x" * (LARGE + 1))
        await until(lambda: on.sessions.statistics().bridges[0].outbound_depth == 7)
        may_send.set()
        while len(at) < 8:
            turn += 1
            await asyncio.sleep(0)
        assert len({turn for turn, _ in at}) == 8


async def test_the_upstream_is_told_that_the_client_has_ended_its_input() -> None:
    sdk, client, told = Puppet(), Peer(), asyncio.Event()
    sessions = sessions_of(sdk)
    sessions.engine = lambda _request: Upstream(sdk.start, sdk.abort, input_ended=told.set)  # type: ignore[arg-type] # likewise
    running = asyncio.create_task(sessions.run(client, RAW))
    await until(lambda: sessions.statistics().bridges)
    assert not told.is_set()
    client.say(EOS)
    async with asyncio.timeout(PATIENCE):
        await told.wait()
    sdk.finish()
    await running
