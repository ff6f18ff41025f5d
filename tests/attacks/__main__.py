"""Run one attack after the other on a service, and show the effect on other clients and on the service's memory.

For example: python -m tests.attacks --seconds 8 --attack pings --attack pongs
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

from speechbridge.recognizer.server import serving as upstream_serving
from speechbridge.server.admission import make_key
from speechbridge.settings import Settings
from speechbridge.testing.script import Echo, Greet, Scripted
from tests.attacks.attackers import ATTACKS, STREAM
from tests.helpers.command import environment, url_in
from tests.helpers.processes import status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

NEIGHBOURS = 10
CHUNK = bytes(3200)  # 100 ms of 16 kHz mono
EVERY = 0.05  # seconds between two chunks of a neighbour
SAMPLE = 0.05  # seconds between two samples of the service's memory
CALM = "none"
WITH_UPSTREAM = ("wide_streams",)  # attacks on a service with an upstream; all others use an SDK that answers at once
HEAD = ("attack", "p50 ms", "p99 ms", "max ms", "/livez max ms", "before MB", "peak MB", "after MB", "answer")


def echo(audio: Iterator[bytes]) -> Iterator[str]:
    """An SDK that answers each chunk."""
    for chunk in audio:
        yield f'{{"type": "partial", "bytes": {len(chunk)}}}'


@dataclass
class Result:
    """The result of one attack: round trips of neighbours and probes in seconds, memory in bytes, and its answer."""

    trips: list[float] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    after: int = 0
    answer: str = ""

    def row(self, name: str) -> tuple[object, ...]:
        cuts = statistics.quantiles(self.trips, n=100)
        times = [cuts[49], cuts[98], max(self.trips), max(self.probes)]
        sizes = [self.memory[0], max(self.memory), self.after]
        return (name, *(f"{1000 * t:.1f}" for t in times), *(f"{size / 2**20:.0f}" for size in sizes), self.answer)


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return 1024 * status(pid)["VmRSS"]


@asynccontextmanager
async def service(name: str, lines: list[str]) -> AsyncIterator[tuple[int, str]]:
    """Run `speechbridge serve` as a process; yield its PID and its URL."""
    async with upstream_serving(Scripted((Greet(), Echo())), handshake_timeout=None) as upstream:
        speech = {"REVAI_URL": upstream.url} if name in WITH_UPSTREAM else {"START": f"{__package__}.__main__:echo"}
        settings = {**speech, "API_KEYS": ",".join(lines), "LOG_LEVEL": "error", "HANDSHAKES_PER_MINUTE": "0"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "speechbridge", "serve", "--port", "0"),
            env=environment(**{f"SPEECHBRIDGE_{name}": value for name, value in settings.items()}),
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        try:
            announced = ""
            while "Ctrl-C" not in announced:
                announced += (await process.stdout.readline()).decode()
            yield process.pid, url_in(announced)
        finally:
            process.terminate()
            await process.communicate()


async def neighbour(url: str, path: str, trips: list[float]) -> None:
    """Send chunks, and record how long each answer takes."""
    clock = asyncio.get_running_loop().time
    async with connect(url + path, compression=None, ping_interval=None) as socket:
        while True:
            begun = clock()
            try:
                await socket.send(CHUNK)
                while '"partial"' not in str(await socket.recv()):
                    pass
            finally:
                trips.append(clock() - begun)  # even without an answer, when the attack ends
            await asyncio.sleep(max(0.0, EVERY - (clock() - begun)))


async def probe(url: str, probes: list[float]) -> None:
    """Request /livez again and again, as an orchestrator does."""
    clock, where = asyncio.get_running_loop().time, urlsplit(url)
    while True:
        begun = clock()
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.read()
        finally:
            probes.append(clock() - begun)
            writer.close()
        await asyncio.sleep(EVERY)


async def watch(pid: int, memory: list[int]) -> None:
    while True:
        memory.append(resident(pid))
        await asyncio.sleep(SAMPLE)


async def attack(name: str, url: str, key: str, seconds: float) -> str:
    if name == CALM:
        await asyncio.sleep(seconds)
        return ""
    attacker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.attackers", name, url, key, str(seconds)),
        env=os.environ | {"LARGEST": str(Settings.model_fields["max_message_bytes"].default)},
        stdout=subprocess.PIPE,
    )
    answer, _ = await attacker.communicate()
    return answer.decode().strip()


async def run(name: str, seconds: float) -> Result:
    result = Result()
    (key, line), (attackers_key, attackers_line) = make_key("neighbour"), make_key("attacker")
    async with service(name, [line, attackers_line]) as (pid, url):
        path = f"{STREAM}&access_token={key}" if name in WITH_UPSTREAM else f"/ws_a?access_token={key}"
        tasks = [asyncio.create_task(neighbour(url, path, result.trips)) for _ in range(NEIGHBOURS)]
        await asyncio.sleep(0.5)
        result.trips.clear()
        tasks += [asyncio.create_task(probe(url, result.probes)), asyncio.create_task(watch(pid, result.memory))]
        attacking = asyncio.create_task(attack(name, url, attackers_key, seconds))
        done, _ = await asyncio.wait({attacking, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        broken = [task for task in done if task is not attacking]
        result.answer = await attacking
        await asyncio.sleep(1.0)
        result.after = resident(pid)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                result.answer += f" -- a neighbour was disconnected: {ended!r}"
        assert not broken or "disconnected" in result.answer
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack (default: %(default)g)")
    parser.add_argument("--attack", action="append", choices=[CALM, *ATTACKS], help="may be given several times")
    options = parser.parse_args()
    print(f"{NEIGHBOURS} neighbours, a chunk every {1000 * EVERY:g} ms each; {options.seconds:g} s of each attack\n")
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    for name in options.attack or [CALM, *ATTACKS]:
        result = asyncio.run(run(name, options.seconds))
        print(f"| {' | '.join(map(str, result.row(name)))} |", flush=True)


if __name__ == "__main__":
    main()
