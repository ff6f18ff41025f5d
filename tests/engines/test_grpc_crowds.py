"""Google's and Riva's real SDKs before servers of their own protos: whatever breaks, no word is lost or doubled."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import reconnect
from tests.helpers.crowd import PATIENCE, Crowd
from tests.helpers.grpc_services import DIALECTS, FAULTS, Counting, serving, settings_for
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.server.run import Server

pytestmark = pytest.mark.slow

SERVICES = pytest.mark.parametrize("name", DIALECTS)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.05, 0.05))


@asynccontextmanager
async def before(name: str, crowd: Crowd, **settings: float) -> AsyncIterator[Server]:
    """Serve before a service of this name, with short timeouts for it."""
    with serving(DIALECTS[name](), Counting(crowd.streams)) as address:
        patience = {"connect_seconds": 5.0, "answer_seconds": 10.0, "upstream_silence": 0.5} | settings
        async with service(None, **settings_for(name, address), **patience) as server:
            yield server


@SERVICES
async def test_every_word_arrives_once_at_its_time(name: str) -> None:
    crowd = Crowd(streams=3, seconds=15)
    async with before(name, crowd) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=20)
    assert result.trouble == []
    assert result.count(lambda heard: heard.off) == 0


@SERVICES
@pytest.mark.parametrize("kind", FAULTS)
async def test_no_word_is_lost_or_doubled_whatever_breaks(name: str, kind: str) -> None:
    # A connection that stalls from its beginning can only be the second.
    kinds = (kind, "limit") if kind == "stall from byte 0" else (kind,)
    crowd = Crowd(streams=3, seconds=12, kinds=kinds, every=4)
    async with before(name, crowd) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=20)
    assert result.trouble == []
    assert result.breaks[kind] > 0
    if "stall" not in kind and "mute" not in kind:  # there the service learns a moment later that it was hung up on
        assert all(stream.most_open == 1 for stream in result.streams)


@SERVICES
async def test_rotation_loses_doubles_and_cuts_nothing(name: str) -> None:
    crowd = Crowd(streams=3, seconds=70)
    async with before(name, crowd, upstream_lifetime=3.0, upstream_silence=PATIENCE) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=7)
    assert result.trouble == []
    assert all(len(stream.given) > 2 for stream in result.streams)
    assert result.cut[0] == 0  # of what clients heard: what a call says that was called off reaches nobody
    assert result.count(lambda heard: heard.untrue) == 0
