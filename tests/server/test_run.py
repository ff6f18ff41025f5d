"""The server's life: its signals, its drain, and clients that would hold it up."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

import speechbridge.server.run
from tests.helpers.command import STUB, serving, url_in
from tests.helpers.descriptors import open_files
from tests.helpers.puppet import until
from tests.helpers.raw_websocket import PATIENCE, frame, raw
from tests.helpers.service import client, service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.slow
async def test_a_client_that_stops_reading_is_dropped_with_all_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speechbridge.server.run, "STALL_SECONDS", 1.0)

    def talkative(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        while True:
            yield "x" * 65536

    async with service(talkative, drain_seconds=0) as server:
        async with client(server) as warm:
            await warm.send(b"!")
            await warm.recv()
        sessions, files = server.sessions, open_files()
        async with raw(server.url) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it
            writer.write(frame(2, b"!"))
            await until(lambda: sessions.alive)
            async with asyncio.timeout(PATIENCE):
                await sessions.held.none()
                await asyncio.to_thread(_gone, sessions.pool)
        assert len(open_files()) <= len(files)


def _gone(pool: object) -> None:
    for thread in threading.enumerate():
        if thread.name.endswith("-worker"):
            thread.join(PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_with_streams_under_way_ends_them_with_4010(sig: signal.Signals) -> None:
    async def talk(url: str) -> list[int | None]:
        streams = [await connect(f"{url}/ws_a", compression=None) for _ in range(20)]
        for stream in streams:
            await stream.send(b"audio")
            await stream.recv()
        process.send_signal(sig)
        async with asyncio.timeout(PATIENCE):
            for stream in streams:
                await stream.wait_closed()
        return [stream.close_code for stream in streams]

    with serving(SPEECHBRIDGE_START=STUB) as (process, announced):
        url = url_in(announced)
        assert asyncio.run(talk(url)) == [4010] * 20
        _, logged = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in logged


async def test_a_signal_does_not_wait_for_a_client_that_does_not_read() -> None:
    def talkative(audio: Iterator[bytes]) -> Iterator[str]:
        next(audio)
        while True:
            yield "x" * 65536

    async with asyncio.timeout(PATIENCE):
        async with service(talkative, drain_seconds=0.2) as server, raw(server.url) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's has it
            writer.write(frame(2, b"!"))
            sessions = server.sessions
            await until(lambda: sessions.alive)
