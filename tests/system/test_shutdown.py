"""SIGTERM with fifty streams under way: last words, 4010, and gone in time, whatever upstream or clients do."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from speechbridge.recognizer.server import serving as upstream
from speechbridge.testing.script import NORMAL, Echo, Greet, Scripted, Wait
from tests.helpers.command import serving, url_in
from tests.helpers.service import STREAM, ending

if TYPE_CHECKING:
    from speechbridge.testing.script import Script

pytestmark = pytest.mark.slow

STREAMS = 50
DRAIN = 2  # seconds; the default is 10
GONE = DRAIN + 5  # as 15 is to 10


@pytest.mark.parametrize(("script", "reads"), [(NORMAL, True), ((Greet(), Echo(1), Wait()), True), (NORMAL, False)])
async def test_everybody_is_told_and_the_process_is_gone_in_time(script: Script, *, reads: bool) -> None:
    """A healthy upstream, one that falls silent, and clients that do not read any more."""
    async with upstream(Scripted(script), handshake_timeout=None) as far:
        with serving(
            SPEECHBRIDGE_REVAI_URL=far.url, SPEECHBRIDGE_DRAIN_SECONDS=str(DRAIN), SPEECHBRIDGE_LOG_LEVEL="error"
        ) as (process, announced):
            url = url_in(announced)
            async with AsyncExitStack() as stack:
                streams = [
                    await stack.enter_async_context(connect(url + STREAM, compression=None, close_timeout=0.1))
                    for _ in range(STREAMS)
                ]
                for stream in streams:
                    await stream.send(bytes(3200))
                    while '"partial"' not in str(await stream.recv()):
                        pass
                    if not reads:
                        stream.transport.pause_reading()
                process.send_signal(signal.SIGTERM)
                begun = time.monotonic()
                if reads:
                    endings = await asyncio.gather(*(ending(stream) for stream in streams))
                await asyncio.to_thread(process.wait, 3 * GONE)
                took = time.monotonic() - begun
                for stream in streams:
                    stream.transport.abort()
    assert process.returncode == 0
    assert took < GONE
    if reads:
        assert {close.code for _, close in endings} == {4010}
    if reads and script is NORMAL:
        finals = [json.loads(messages[-1]) for messages, _ in endings]
        assert {final["elements"][0]["value"] for final in finals} == {"3200"}
