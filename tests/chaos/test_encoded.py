"""The upstream breaks under clients that record WebM: no sample that was decoded is lost or given twice."""

from __future__ import annotations

import anyio
import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import reconnect
from tests.helpers.crowd import PATIENCE, Crowd
from tests.helpers.encoded import EXACT_WEBM
from tests.helpers.service import service_before


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.05, 0.05))


@pytest.mark.parametrize("kind", ["rst", "1011", "silence", "deaf", "HTTP 502"])
async def test_no_word_is_lost_or_doubled_under_a_client_that_sends_webm(kind: str) -> None:
    """Its sound is encoded without loss, so the upstream knows each sample by its value."""
    crowd = Crowd(streams=3, seconds=10, kinds=(kind,), every=4)
    async with service_before(crowd.upstream) as server:
        with anyio.fail_after(PATIENCE):
            result = await crowd.talk(server.url, pace=30, form=EXACT_WEBM)
    assert result.trouble == []
    assert result.breaks[kind] > 0
    assert all(len(stream.given) > 1 for stream in result.streams)
