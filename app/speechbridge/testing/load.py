"""A load generator: many clients that send audio in real time, and measure the delay of each answer.

Each of `sessions` clients sends a chunk every `chunk_ms`, with a phase of its own, whether the last chunk was answered
or not. After a warm-up, answers are counted for `seconds`, the window. Then each client sends EOS, and waits for the
remaining answers and the close. A round trip lasts from the write of the last chunk of an answer to the read of the
answer. The CPU time is that of the processes `pids` within the window, as the kernel counts it.

    python -m speechbridge.testing.load JSON_OF_A_LOAD
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from array import array
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from speechbridge.testing.frames import BINARY, CLOSE, PING, PONG, TEXT, Frames, encode, request

WARM_UP = 1.0  # seconds
PATIENCE = 30.0  # seconds for all clients to connect, and for all to get their answers and their close
AT_ONCE = 50  # handshakes

SAMPLE = 2  # bytes
RATE = 16_000


@dataclass(frozen=True)
class Load:
    urls: list[str]  # used in turn; `{answer}` is replaced with the bytes of audio for each answer
    pids: list[int]
    sessions: int
    chunk_ms: int
    seconds: float
    answer_ms: int  # audio for each answer; a multiple of `chunk_ms`
    core: int | None = None  # for a load that runs its own service, in the same process

    @property
    def chunk_bytes(self) -> int:
        return RATE * SAMPLE * self.chunk_ms // 1000

    @property
    def chunks_an_answer(self) -> int:
        return self.answer_ms // self.chunk_ms


@dataclass(frozen=True)
class Reading:
    """The results of a load. Round trips and `late` are in milliseconds."""

    chunks: int  # answered within the window
    lost: int  # answers that are missing, and sessions that did not end with 1000
    cpu: float  # microseconds of CPU time per chunk
    cores: float  # used by the service
    p50: float
    p99: float
    worst: float
    threads: int
    resident: int  # KiB
    late: float  # the most by which the generator itself was behind its schedule


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process. The clock's number is the one of clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def state(pid: int) -> tuple[int, int]:
    """Return the number of threads of a process, and its resident memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    counted = dict(line.split(":", 1) for line in lines)
    return int(counted["Threads"]), int(counted["VmRSS"].split()[0])


def speech(size: int) -> bytes:
    """Return noise as loud as a voice."""
    chance = random.Random(1)
    return b"".join(chance.randint(-4000, 4000).to_bytes(SAMPLE, "little", signed=True) for _ in range(size // SAMPLE))


def reading(  # noqa: PLR0913 # all that was counted, by name
    *,
    answered: int,
    lost: int,
    cpu: float,
    seconds: float,
    trips: array[float],
    threads: int,
    resident: int,
    late: float,
) -> Reading:
    ordered = sorted(trips)
    p50, p99, worst = (1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.99, 1.0))
    return Reading(answered, lost, 1e6 * cpu / answered, cpu / seconds, p50, p99, worst, threads, resident, 1000 * late)


RECEIVED = b'{"type": "received"'  # a resumable stream also gets these messages, which are no answers


class Window:
    """The counters of all clients. Round trips count only for chunks sent while it is open."""

    def __init__(self) -> None:
        self.open = False
        self.answered = 0
        self.trips = array("d")


class Client(asyncio.Protocol):
    def __init__(self, host: str, path: str, frame: bytes, chunks_an_answer: int, window: Window) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.pending: deque[float] = deque()  # when each chunk without an answer was sent; 0: before the window
        self._request = request(host, path)
        self._frame = frame
        self._chunks_an_answer = chunks_an_answer
        self._window = window
        self._has_ended = False
        self._head: bytes | None = b""
        self._frames = Frames()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._head = None
        now = time.perf_counter()
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT and not payload.startswith(RECEIVED):
                self._answered(now)
            elif opcode == PING:
                self._transport.write(encode(PONG, payload, masked=True))
            elif opcode == CLOSE:
                self._transport.write(encode(CLOSE, payload, masked=True))
                self._end(int.from_bytes(payload[:2]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(1006)

    def send(self) -> None:
        self.pending.append(time.perf_counter() if self._window.open else 0.0)
        self._transport.write(self._frame)

    def end(self) -> None:
        self._has_ended = True
        self._transport.write(encode(TEXT, b"EOS", masked=True))

    def _answered(self, now: float) -> None:
        if not self.greeted.done():
            self.greeted.set_result(None)
            return
        if self._has_ended and len(self.pending) < self._chunks_an_answer:
            return  # the final after EOS, which answers no chunk
        for _ in range(self._chunks_an_answer):
            sent = self.pending.popleft()
        self._window.answered += self._chunks_an_answer
        if sent:  # within the window
            self._window.trips.append(now - sent)

    def _end(self, code: int) -> None:
        if not self.ended.done():
            self.ended.set_result(code)
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(f"closed with {code} before it began"))


async def connected(load: Load, window: Window) -> list[Client]:
    frame = encode(BINARY, speech(load.chunk_bytes), masked=True)
    answer = str(load.chunk_bytes * load.chunks_an_answer)
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for first in range(0, load.sessions, AT_ONCE):
        batch = []
        for number in range(first, min(first + AT_ONCE, load.sessions)):
            url = urlsplit(load.urls[number % len(load.urls)].replace("{answer}", answer))
            assert url.hostname
            assert url.port
            client = Client(url.netloc, f"{url.path}?{url.query}", frame, load.chunks_an_answer, window)
            await loop.create_connection(lambda client=client: client, url.hostname, url.port)  # type: ignore[misc]
            batch.append(client)
        await asyncio.gather(*(client.greeted for client in batch))
        clients += batch
    return clients


class Pace:
    """The schedule of all clients, each with its own phase of the period."""

    def __init__(self, clients: list[Client], period: float) -> None:
        self._clients = clients
        self._step = period / len(clients)
        self._next = time.perf_counter()
        self._turn = 0
        self.late = 0.0

    async def keep(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            self.late = max(self.late, now - self._next)
            while self._next <= now:
                self._clients[self._turn].send()
                self._turn = (self._turn + 1) % len(self._clients)
                self._next += self._step
            await asyncio.sleep(max(0.0, self._next - time.perf_counter()))


async def run(load: Load) -> Reading:
    window = Window()
    async with asyncio.timeout(PATIENCE):
        clients = await connected(load, window)
    pace = Pace(clients, load.chunk_ms / 1000)
    await pace.keep(WARM_UP)

    window.open, before, pace.late = True, window.answered, 0.0
    cpu, began = sum(map(cpu_seconds, load.pids)), time.perf_counter()
    await pace.keep(load.seconds)
    cpu, seconds = sum(map(cpu_seconds, load.pids)) - cpu, time.perf_counter() - began
    answered, late = window.answered - before, pace.late
    states = [state(pid) for pid in load.pids]

    for client in clients:
        client.end()
    _, silent = await asyncio.wait([client.ended for client in clients], timeout=PATIENCE)
    lost = sum(len(client.pending) // load.chunks_an_answer for client in clients) + len(silent)
    lost += sum(client.ended.done() and client.ended.result() != 1000 for client in clients)
    return reading(
        answered=answered,
        lost=lost,
        cpu=cpu,
        seconds=seconds,
        trips=window.trips,
        threads=sum(threads for threads, _ in states),
        resident=sum(resident for _, resident in states),
        late=late,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(Load(**json.loads(sys.argv[1])))))))
