"""Kill the replicas of a cluster one after the other while resumable streams run, and count what is lost.

    python -m tests.chaos.cluster --streams 20 --minutes 10 --pace 5 --seed 1

Several replicas share one Redis. Clients connect to any of them at random. Every few seconds one replica is killed,
frozen or restarted (`--how`), and another takes its place; once a minute Redis is frozen. Upstreams break meanwhile as
in `python -m tests.chaos`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge import ContentType, StreamRequest, connect_resumable
from speechbridge.audio import RATE
from speechbridge.client.stream import Broken
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.recognizer.server import serving as serving_upstream
from tests.helpers import spoken
from tests.helpers.breaking_upstream import KINDS, Stream, Upstream, faults
from tests.helpers.command import serving, url_in
from tests.helpers.crowd import Received
from tests.helpers.cutting import Wire, cut_wire
from tests.helpers.redis import RedisServer, redis_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from speechbridge.client.resumable import ResumableStream
    from speechbridge.recognizer.server import Connection

# Faults after which the upstream notices that its client has left. After others, connections count as open for seconds.
NOTICED = tuple(kind for kind in KINDS if kind not in ("deaf", "blocked send"))
SETTINGS = {"CONNECT_SECONDS": "1", "ANSWER_SECONDS": "30", "UPSTREAM_SILENCE": "2", "LOG_LEVEL": "error"}
NOTICED_SECONDS = 0.1  # for a busy upstream to notice the end of a connection
FROZEN_SECONDS = 5.0  # of Redis
STOPPED_SECONDS = 30.0  # of a frozen replica
KILLS, STOPS, RESTARTS = "kill", "stop", "restart"


class CountingUpstream(Upstream):
    """Counts the open connections of all streams, and measures how long a stream has two at once."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        super().__init__(streams)
        self.open = self.most = 0
        self.overlap = (
            0.0  # the longest, in seconds. It may notice an end a moment after the next connection's beginning
        )

    async def handle(self, connection: Connection) -> None:
        stream, begun = self._admitted[connection.id][0]._stream, time.monotonic()
        older = stream.open
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            noting = asyncio.create_task(self._note_overlap(stream, begun)) if older else None
            await super().handle(connection)
        finally:
            self.open -= 1
            if noting is not None:
                noting.cancel()

    async def _note_overlap(self, stream: Stream, begun: float) -> None:
        while stream.open > 1:
            await asyncio.sleep(0.005)
            self.overlap = max(self.overlap, time.monotonic() - begun)


@dataclass
class Replicas:
    """The running replicas of one cluster."""

    settings: dict[str, str]
    dice: random.Random
    stack: ExitStack = field(default_factory=ExitStack)
    running: list[tuple[subprocess.Popen[str], str]] = field(default_factory=list)
    ended: int = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        process, announced = await loop.run_in_executor(None, self.stack.enter_context, serving(**self.settings))
        self.running.append((process, url_in(announced)))

    def anywhere(self) -> str:
        return self.dice.choice(self.running)[1]

    async def end_one(self, how: str) -> None:
        """End the oldest replica."""
        process, _ = self.running.pop(0)
        self.ended += 1
        if how == STOPS:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(STOPPED_SECONDS)
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM if how == RESTARTS else signal.SIGKILL)
        await asyncio.get_running_loop().run_in_executor(None, process.wait)


@dataclass
class Outcome:
    """The result of one client's stream."""

    stream: Stream
    received: Received
    cuts: int = 0
    restarts: int = 0
    silence: float = 0.0  # the longest time without a message, in seconds


async def speak(url: str, name: str, stream: Stream, pace: float, outcome: Outcome) -> None:
    request = StreamRequest(ContentType.raw(), {"metadata": name})
    async with connect_resumable(url, request) as resumable:
        reading = asyncio.create_task(read(resumable, stream, outcome))
        await send(resumable, stream, pace)
        try:
            await reading
        except Broken as broken:
            outcome.received.trouble.append(f"{name} ended with {broken.close}")
        outcome.cuts, outcome.restarts = resumable.cuts, resumable.restarts
        if resumable.close != Close(1000, END_OF_INPUT):
            outcome.received.trouble.append(f"{name} ended with {resumable.close}")
        outcome.received.ends(stream)


async def send(resumable: ResumableStream, stream: Stream, pace: float) -> None:
    begun = time.monotonic()
    for start in range(0, stream.length, spoken.CHUNK):
        await asyncio.sleep(begun + start / RATE / pace - time.monotonic())
        await resumable.send(spoken.audio(start, min(start + spoken.CHUNK, stream.length)))
    stream.is_ended = True
    await resumable.end()


async def read(resumable: ResumableStream, stream: Stream, outcome: Outcome) -> None:
    last = time.monotonic()
    async for message in resumable:
        now = time.monotonic()
        outcome.silence, last = max(outcome.silence, now - last), now
        outcome.received.add(message, stream)


async def disturb(replicas: Replicas, redis: RedisServer, options: argparse.Namespace) -> None:
    async def end_them() -> None:
        while True:
            spare = asyncio.create_task(replicas.start())
            await asyncio.sleep(options.kill_every)
            await spare
            await replicas.end_one(options.how)

    async def freeze() -> None:
        while options.freeze_every:
            await asyncio.sleep(options.freeze_every)
            redis.freeze()
            await asyncio.sleep(FROZEN_SECONDS)
            redis.thaw()

    async with asyncio.TaskGroup() as group:
        group.create_task(end_them())
        group.create_task(freeze())


@asynccontextmanager
async def cluster(
    count: int, streams: int, upstream: str, dice: random.Random
) -> AsyncIterator[tuple[Replicas, Wire, RedisServer]]:
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis:
        settings = SETTINGS | {"REVAI_URL": upstream, "REDIS_URL": redis.url, "ACCOUNT_STREAMS": str(streams)}
        replicas = Replicas({f"SPEECHBRIDGE_{name}": value for name, value in settings.items()}, dice)
        with replicas.stack:
            for _ in range(count):
                await replicas.start()

            def lives() -> None:  # called before each connection is made: choose its replica
                wire.target = replicas.anywhere()

            async with cut_wire("", lives) as wire:
                yield replicas, wire, redis


async def run(options: argparse.Namespace) -> bool:
    dice = random.Random(options.seed)
    length = int(options.minutes * 60 / spoken.SECONDS) * spoken.UTTERANCE
    names = [f"{options.seed}-{number}" for number in range(options.streams)]
    streams = {name: Stream(length, faults(NOTICED, options.every, random.Random(name))) for name in names}
    for stream in streams.values():
        stream.may_miss = spoken.UTTERANCE - spoken.STRIDE - spoken.WORD
    upstream = CountingUpstream(streams)
    outcomes = {name: Outcome(stream, Received()) for name, stream in streams.items()}
    begun = time.monotonic()
    async with (
        serving_upstream(upstream, handshake_timeout=None) as upstream_server,
        cluster(options.replicas, options.streams, upstream_server.url, dice) as (replicas, wire, redis),
    ):
        async with asyncio.TaskGroup() as group:
            disturbing = group.create_task(disturb(replicas, redis, options))
            await asyncio.gather(
                *(
                    group.create_task(speak(wire.url, name, streams[name], options.pace, outcome))
                    for name, outcome in outcomes.items()
                )
            )
            disturbing.cancel()
        redis.thaw()
    return report(outcomes, upstream, replicas, options, time.monotonic() - begun)


def report(
    outcomes: dict[str, Outcome],
    upstream: CountingUpstream,
    replicas: Replicas,
    options: argparse.Namespace,
    took: float,
) -> bool:
    everyone = outcomes.values()
    trouble = [f"{name}: {text}" for name, outcome in outcomes.items() for text in outcome.received.trouble]
    lost = sum(outcome.stream.lost for outcome in everyone)
    missing, doubled, off = (sum(getattr(o.received, name) for o in everyone) for name in ("missing", "doubled", "off"))
    displaced = sum(outcome.stream.displaced for outcome in everyone)
    most_of_one = max(outcome.stream.most_open for outcome in everyone)
    print(*trouble[:40], sep="\n")
    print(
        f"{len(outcomes)} streams of {options.minutes:g} minutes in {took:.0f} s;"
        f" {options.how}: {replicas.ended} replicas;"
        f" {sum(o.stream.breaks.total() for o in everyone)} breaks of upstreams, {sum(o.cuts for o in everyone)} cuts,"
        f" {sum(o.restarts for o in everyone)} streams begun anew\n"
        f"lost: {lost} samples, {missing} words; doubled: {doubled}; wrong times: {off}; displaced: {displaced}\n"
        f"open upstream at once: {upstream.most} of {options.streams}, {most_of_one} of one stream, for"
        f" {1000 * upstream.overlap:.0f} ms at most\n"
        f"longest silence: {max(o.silence for o in everyone):.1f} s"
    )
    return (
        not (trouble or lost or displaced) and upstream.most <= options.streams and upstream.overlap < NOTICED_SECONDS
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0, help="of audio in each stream (default: %(default)g)")
    parser.add_argument("--pace", type=float, default=5.0, help="multiple of real time (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--every", type=float, default=20.0, help="mean seconds of audio to a break of an upstream")
    parser.add_argument("--how", choices=(KILLS, STOPS, RESTARTS), default=KILLS, help="how replicas end")
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds (default: %(default)g)")
    parser.add_argument("--freeze-every", type=float, default=60.0, help="seconds; 0: Redis is never frozen")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    logging.disable()  # the upstream's server logs each handshake that a killed process leaves behind
    sys.exit(not asyncio.run(run(options)))


if __name__ == "__main__":
    main()
