"""While an upstream refuses all connections, one stream at a time probes it; all continue once it is back."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio

from speechbridge.engines.circuit import BACKOFF
from speechbridge.recognizer.server import Connection, Refusal
from tests.helpers.breaking_upstream import Stream, Upstream
from tests.helpers.crowd import PATIENCE, Crowd
from tests.helpers.service import service_before

if TYPE_CHECKING:
    from collections.abc import Callable


class Outage(Upstream):
    """Refuses all connections until it is over."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        super().__init__(streams)
        self.is_over = False
        self.refusals = 0
        self._changed = asyncio.Event()

    async def admit(self, connection: Connection) -> Refusal | None:
        if self.is_over:
            return await super().admit(connection)
        self.refusals += 1
        self._changed.set()
        self._changed = asyncio.Event()
        return Refusal(HTTPStatus.BAD_GATEWAY)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()


async def test_an_outage_is_probed_by_one_stream_and_ends_for_all_at_once() -> None:
    crowd = Crowd(streams=20, seconds=5)
    outage = Outage(crowd.streams)
    async with service_before(outage, answer_seconds=PATIENCE, connect_seconds=PATIENCE) as server:
        begun = time.monotonic()
        talking = asyncio.create_task(crowd.talk(server.url, pace=30))
        with anyio.fail_after(PATIENCE):
            await outage.until(lambda: outage.refusals >= 20)
            first = outage.refusals  # all may have been on their way when the first five failed
            await outage.until(lambda: outage.refusals >= first + 2)
            probes_allowed = 1 + (time.monotonic() - begun) / BACKOFF.first
            assert outage.refusals <= 20 + probes_allowed
            outage.is_over = True
            result = await talking
    assert result.trouble == []
    assert all(len(stream.given) == 1 for stream in result.streams)
