"""What do the start and the end of a session cost? And what does it save that a service keeps to one core?

Method: sessions of 5 chunks and of 25 chunks, 100 ms of audio each, ten sessions at a time; all chunks of a session are
sent at once, and the upstream answers at once. CPU time is that of the service, as the kernel counts it. Both lengths
alternate in one run: the difference between them is 20 chunks, and what a session costs without its chunks is its start
and its end. The service runs once pinned to a core by itself (the default), once pinned to the same core by `taskset`,
and once not pinned (`PIN=off`), in turn.

    python -m tests.bench.starts [ROUNDS]

Last result: `results/starts.md`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import uvloop

from speechbridge.testing.frames import BINARY, encode
from speechbridge.testing.load import Client, Window, cpu_seconds, speech
from tests.bench.report import keep, spread
from tests.bench.subjects import METADATA, keep_to, upstream
from tests.helpers.command import serving, url_in
from tests.helpers.service import STREAM
from tests.helpers.tables import table

SHORT, LONG = 5, 25  # chunks
CHUNK = 3200  # bytes
SESSIONS = 200
AT_ONCE = 10
ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """Milliseconds of CPU: of a session's start and end, and of one of its chunks."""

    ends: float
    chunk: float


async def session(host: str, port: int, path: str, frame: bytes, chunks: int) -> None:
    window = Window()
    window.open = True
    client = Client(f"{host}:{port}", path, frame, 1, window)
    await asyncio.get_running_loop().create_connection(lambda: client, host, port)
    await client.greeted
    for _ in range(chunks):
        client.send()
    while window.answered < chunks:  # noqa: ASYNC110 # the client counts answers, and has no event to wait for
        await asyncio.sleep(0.002)
    client.end()
    code = await client.ended
    assert code == 1000, code


async def sessions(url: str, chunks: int) -> None:
    host, _, port = url.removeprefix("ws://").partition(":")
    path = f"{STREAM}&{METADATA}".replace("{answer}", str(CHUNK))
    frame = encode(BINARY, speech(CHUNK), masked=True)
    free = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with free:
            await session(host, int(port), path, frame, chunks)

    await asyncio.gather(*(one() for _ in range(SESSIONS)))


def measure(url: str, pid: int, chunks: int) -> float:
    """Return the milliseconds of CPU that one session took."""
    before = cpu_seconds(pid)
    uvloop.run(sessions(url, chunks))
    return 1000 * (cpu_seconds(pid) - before) / SESSIONS


def cost(url: str, pid: int) -> Cost:
    short, long = measure(url, pid, SHORT), measure(url, pid, LONG)
    chunk = (long - short) / (LONG - SHORT)
    return Cost(short - SHORT * chunk, chunk)


def main(rounds: int = ROUNDS) -> str:
    ways = {"pinned by itself": "on", "under taskset": "off", "not pinned": "off"}
    with ExitStack() as stack:
        url = stack.enter_context(upstream())
        running = {}
        core: int | None = None
        for name, pin in ways.items():
            settings = {"SPEECHBRIDGE_REVAI_URL": url, "SPEECHBRIDGE_LOG_LEVEL": "error", "SPEECHBRIDGE_PIN": pin}
            process, announced = stack.enter_context(serving(**settings))
            if pin == "on":
                (core,) = os.sched_getaffinity(process.pid)
            elif name == "under taskset":
                keep_to(process.pid, core)
            running[name] = url_in(announced), process.pid
            measure(*running[name], SHORT)  # warms the service up
        found: list[dict[str, Cost]] = []
        for number in range(rounds):
            order = list(running.items())[:: 1 if number % 2 else -1]
            found.append({name: cost(*where) for name, where in order})
            time.sleep(0.5)  # the threads of the ended sessions stop
    rows = [
        [name, spread([each[name].ends for each in found], 2), spread([1000 * each[name].chunk for each in found])]
        for name in ways
    ]
    ratios = [
        sum(each["pinned by itself"].__dict__.values()) / sum(each["under taskset"].__dict__.values()) for each in found
    ]
    text = table(["", "start and end of a session, ms", "chunk, us"], rows)
    text += f"\nPinned by itself, next to taskset: {spread(ratios, 2)}.\n"
    return keep(
        "starts",
        __doc__.partition("\n")[0],
        text,
        [{name: each.__dict__ for name, each in one.items()} for one in found],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
