"""Whatever breaks the upstream's connections, a client sees one stream, complete and in order."""

from __future__ import annotations

import anyio
import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import reconnect
from speechbridge.protocol.close import Close
from speechbridge.testing.script import End, Greet, Scripted, Status, Wait
from tests.helpers import plain_sdk
from tests.helpers.breaking_upstream import KINDS, MUTE_AFTER_ROTATION
from tests.helpers.crowd import PATIENCE, Crowd
from tests.helpers.plain_sdk import PLAIN_KINDS
from tests.helpers.service import STREAM, client, ending, service_before


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.05, 0.05))  # seconds; a script runs these with the true ones


@pytest.mark.parametrize("kind", KINDS)
async def test_no_word_is_lost_or_doubled_whatever_breaks(kind: str) -> None:
    crowd = Crowd(streams=3, seconds=10, kinds=(kind,), every=4)
    async with service_before(crowd.upstream) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=30)
    assert result.trouble == []
    assert result.breaks[kind] > 0


async def test_no_word_is_lost_or_doubled_when_the_upstream_is_mute_after_a_rotation() -> None:
    crowd = Crowd(streams=3, seconds=15, kinds=(MUTE_AFTER_ROTATION,))
    async with service_before(crowd.upstream, upstream_lifetime=0.3) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=4)  # slow: finals seldom come first near the end of a lifetime
    assert result.trouble == []
    assert result.breaks[MUTE_AFTER_ROTATION] > 0


@pytest.mark.parametrize("kind", PLAIN_KINDS)
async def test_no_word_is_lost_or_doubled_by_an_sdk_that_has_no_timeouts(kind: str) -> None:
    """The library alone must notice that it is stuck, or has ended too early."""
    crowd = Crowd(streams=3, seconds=15, kinds=(kind,), every=4)
    with anyio.fail_after(PATIENCE):
        lifetime = 0.2 if kind == MUTE_AFTER_ROTATION else None
        result = await plain_sdk.talk(crowd, pace=30, lifetime=lifetime, answer=PATIENCE / 2)
    assert result.trouble == []
    assert result.breaks[kind] > 0
    assert all(stream.most_open == 1 for stream in result.streams)


async def test_rotation_at_finals_loses_and_doubles_nothing() -> None:
    crowd = Crowd(streams=3, seconds=30)
    with anyio.fail_after(PATIENCE):
        result = await plain_sdk.talk(crowd, pace=30, lifetime=0.3, knows_quiet=False)
    assert result.trouble == []
    assert all(len(stream.given) > 2 for stream in result.streams)
    assert all(stream.most_open == 1 for stream in result.streams)


async def test_no_word_is_lost_or_doubled_when_everything_breaks() -> None:
    crowd = Crowd(streams=8, seconds=20, kinds=KINDS, seed=2)
    async with service_before(crowd.upstream) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=30)
    assert result.trouble == []
    assert len(result.breaks) > len(KINDS) / 2


async def test_rotation_loses_and_doubles_nothing_and_holds_one_connection_at_a_time() -> None:
    crowd = Crowd(streams=4, seconds=60)
    async with service_before(crowd.upstream, upstream_lifetime=0.3, upstream_silence=PATIENCE) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=20)
    assert result.trouble == []
    assert all(len(stream.given) > 3 for stream in result.streams)  # ten, on a machine that has nothing else to do
    assert all(stream.most_open == 1 for stream in result.streams)
    assert not result.breaks


@pytest.mark.parametrize("code", [4001, 4002, 4003])
@pytest.mark.parametrize("heard", [0, 6400])
async def test_a_permanent_error_reaches_the_client_and_is_not_retried(code: int, heard: int) -> None:
    scripted = Scripted((Greet(), Wait(audio=heard), End(code, "refused")))
    async with service_before(scripted) as server, client(server, STREAM) as socket:
        await socket.send(bytes(6400))
        _, close = await ending(socket)
    assert close == Close(code, "refused")
    assert len(scripted.clients) == 1


@pytest.mark.parametrize("refusal", [End(4002, "what is this?"), Status(400)])
async def test_clients_that_are_refused_do_not_open_the_circuit_for_others(refusal: End | Status) -> None:
    """More of them than failures open the circuit."""
    scripted = Scripted(*[(refusal,)] * 12)
    async with service_before(scripted, answer_seconds=PATIENCE) as server:
        for _ in range(12):
            async with client(server, STREAM) as socket:
                _, close = await ending(socket)
                assert close.code == 4002
    assert len(scripted.clients) == 12
