"""A resumable stream across restarts of the service: a real process, killed and started again; each sample counts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge import ContentType, Final, StreamRequest, connect_resumable
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.server.admission import make_key
from tests.helpers import ramp
from tests.helpers.command import announced, environment, url_in
from tests.helpers.cutting import cut_wire
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.client.resumable import ResumableStream

pytestmark = pytest.mark.slow

PATIENCE = 90.0  # seconds, for processes on a busy machine
CHUNK = ramp.RATE // 10  # samples
OFFSET = 30.0  # seconds: the stream is the rest of a longer one


class Service:
    """`speechbridge serve` on one port, in one process after the other."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "speechbridge", "serve", "--port", str(self.port)],
            env=environment(SPEECHBRIDGE_START=ramp.START, SPEECHBRIDGE_DRAIN_SECONDS="2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port = int(url_in(announced(self._process)).rpartition(":")[2])

    def stop(self, with_signal: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(with_signal)
        self._process.communicate()


@contextmanager
def running() -> Iterator[Service]:
    service = Service()
    service.start()
    try:
        yield service
    finally:
        service.stop(signal.SIGKILL)


class Speaker:
    """Sends samples that count, at three times the pace of speech, until it is told to end."""

    def __init__(self, stream: ResumableStream, begin: int) -> None:
        self.begin = self.end = begin  # samples
        self._stream = stream
        self._ends = False

    async def speak(self) -> None:
        while not self._ends:
            await self._stream.send(ramp.audio(self.end, self.end + CHUNK))
            self.end += CHUNK
            await asyncio.sleep(0.033)
        await self._stream.end()

    def stop(self) -> None:
        self._ends = True


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 # nothing tells of it; the test as a whole has its time
        await asyncio.sleep(0.01)


async def read(stream: ResumableStream, finals: list[Final]) -> None:
    async for message in stream:
        if isinstance(message, Final):
            finals.append(message)  # noqa: PERF401 # the test looks at them meanwhile


async def test_no_sample_is_lost_or_doubled_when_the_service_is_killed_or_stopped_and_started_again() -> None:
    finals: list[Final] = []
    with running() as service:
        request = StreamRequest(ContentType.raw(), {"start_ts": OFFSET})
        async with asyncio.timeout(PATIENCE), connect_resumable(service.url, request) as stream:
            speaker = Speaker(stream, round(OFFSET * ramp.RATE))
            speaking = asyncio.create_task(speaker.speak())
            reading = asyncio.create_task(read(stream, finals))
            for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                known, key = len(finals), stream._replay.key
                await until(lambda known=known: len(finals) >= known + 3)  # type: ignore[misc] # a default, as the loop changes it
                await asyncio.to_thread(service.stop, how)
                await asyncio.to_thread(service.start)
                await until(lambda key=key: stream._replay.key not in (None, key))  # type: ignore[misc] # the same
            speaker.stop()
            await speaking
            await reading
            assert stream.restarts == 3
            assert stream.lost == 0
            assert stream.close == Close(1000, END_OF_INPUT)
    assert ramp.covered(finals) == [(speaker.begin, speaker.end)]


async def test_a_key_is_sent_with_each_connection() -> None:
    key, line = make_key("alice")
    lives = iter([40_000, 40_000, 40_000])
    async with (
        service(ramp.count, api_keys=line) as server,
        cut_wire(server.url, lambda: next(lives, None)) as wire,
        asyncio.timeout(PATIENCE),
        connect_resumable(wire.url, StreamRequest(ContentType.raw(), {}, key)) as stream,
    ):
        speaker = Speaker(stream, 0)
        speaking = asyncio.create_task(speaker.speak())
        finals: list[Final] = []
        reading = asyncio.create_task(read(stream, finals))
        await until(lambda: stream.cuts == 3)
        speaker.stop()
        await speaking
        await reading
        assert stream.cuts == 3
        assert stream.restarts == 0
    assert ramp.covered(finals) == [(0, speaker.end)]
