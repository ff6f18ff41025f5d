"""Run streams for an hour over connections that break on both sides; count what is lost, and watch the memory.

    python -m tests.chaos.soak [--minutes 60] [--streams 20]

The same number of resumable streams (`connect_resumable`) runs all the time, in real time. Each loses its connection to
the service at random, its upstream breaks in every way of `python -m tests.chaos`, and one in five clients leaves
before the end.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from speechbridge import ContentType, StreamRequest, connect_resumable
from speechbridge.audio import RATE
from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.recognizer.server import serving as serving_upstream
from tests.helpers import spoken
from tests.helpers.breaking_upstream import KINDS, Stream, Upstream, faults
from tests.helpers.command import serving, url_in
from tests.helpers.crowd import Received
from tests.helpers.cutting import cut_wire
from tests.helpers.processes import descriptors, status

if TYPE_CHECKING:
    from speechbridge.client.resumable import ResumableStream

SHORTEST, LONGEST = 20.0, 120.0  # seconds of a stream
BREAKS_EVERY = 20.0  # seconds of audio, on average, from one break of the upstream to the next
CUT_AFTER = (2**17, 2**21)  # bytes both ways (4 s to a minute) after which a connection to the service breaks
DEPARTS = 0.2  # share of the clients that leave before the end
SETTINGS = {"CONNECT_SECONDS": "1", "ANSWER_SECONDS": "30", "UPSTREAM_SILENCE": "2", "LOG_LEVEL": "error"}
HEAD = ("minute", "resident MB", "threads", "descriptors", "streams", "left", "cuts", "breaks", "lost", "doubled")


@dataclass
class Totals:
    """The totals so far. `samples` and `missing` words were lost."""

    ended: int = 0
    left: int = 0
    cuts: int = 0
    breaks: int = 0
    samples: int = 0
    missing: int = 0
    doubled: int = 0
    trouble: list[str] = field(default_factory=list)

    def add(self, name: str, stream: Stream, received: Received, cuts: int) -> None:
        """Count a stream that has ended. If its client has left, only received words count."""
        self.cuts += cuts
        self.breaks += stream.breaks.total()
        self.samples += stream.lost if stream.is_ended else 0
        self.missing += received.missing
        self.doubled += received.doubled
        self.trouble += [f"{name}: {text}" for text in received.trouble]
        if stream.is_ended and stream.lost:
            self.trouble.append(f"{name}: no connection received {stream.lost} samples")


class Soak:
    """The streams: one after the other in each of several places."""

    def __init__(self, url: str, upstream: Upstream, totals: Totals, seed: int, until: float) -> None:
        self._url = url
        self._upstream = upstream
        self._totals = totals
        self._seed = seed
        self._until = until

    async def fill(self, place: int) -> None:
        """Run one stream after the other, until the time is over."""
        for number in itertools.count():
            if time.monotonic() > self._until:
                return
            name = f"{self._seed}-{place}-{number}"
            dice = random.Random(name)
            length = int(dice.uniform(SHORTEST, LONGEST) / spoken.SECONDS) * spoken.UTTERANCE
            stream = self._upstream.streams[name] = Stream(length, faults(KINDS, BREAKS_EVERY, dice))
            stream.may_miss = spoken.UTTERANCE - spoken.STRIDE - spoken.WORD
            received, cuts = await self._speak(name, stream, dice)
            self._totals.add(name, stream, received, cuts)

    async def _speak(self, name: str, stream: Stream, dice: random.Random) -> tuple[Received, int]:
        received = Received()
        request = StreamRequest(ContentType.raw(), {"metadata": name})
        departs = dice.uniform(0.1, 0.9) * stream.length if dice.random() < DEPARTS else None
        async with AsyncExitStack() as stack:
            wire = await stack.enter_async_context(cut_wire(self._url, lambda: dice.randrange(*CUT_AFTER)))
            resumable = await stack.enter_async_context(connect_resumable(wire.url, request))
            reading = asyncio.create_task(self._read(resumable, stream, received))
            try:
                await self._send(resumable, stream, departs)
                if departs is not None:
                    self._totals.left += 1
                    return received, resumable.cuts
                await reading
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
            if resumable.close != Close(1000, END_OF_INPUT):
                received.trouble.append(f"ended with {resumable.close}")
            received.ends(stream)
            self._totals.ended += 1
            return received, resumable.cuts

    async def _read(self, resumable: ResumableStream, stream: Stream, received: Received) -> None:
        async for message in resumable:
            received.add(message, stream)

    async def _send(self, resumable: ResumableStream, stream: Stream, departs: float | None) -> None:
        begun = time.monotonic()
        for start in range(0, stream.length, spoken.CHUNK):
            if departs is not None and start > departs:
                return
            await asyncio.sleep(begun + start / RATE - time.monotonic())
            await resumable.send(spoken.audio(start, min(start + spoken.CHUNK, stream.length)))
        stream.is_ended = True
        await resumable.end()


def figures(pid: int) -> tuple[str, str, str]:
    """Return the resident memory of a process in MB, its threads and its descriptors."""
    counted = status(pid)
    return f"{counted['VmRSS'] / 1000:.1f}", f"{counted['Threads']}", f"{descriptors(pid)}"


async def watch(pid: int, totals: Totals, minutes: float) -> None:
    """Print a row each minute."""
    begun, printed = time.monotonic(), 0
    for minute in itertools.count(1):
        await asyncio.sleep(begun + 60 * minute - time.monotonic())
        lost = f"{totals.samples} samples, {totals.missing} words"
        row = (minute, *figures(pid), totals.ended, totals.left, totals.cuts, totals.breaks, lost, totals.doubled)
        print(f"| {' | '.join(map(str, row))} |", *totals.trouble[printed:], sep="\n  ", flush=True)
        printed = len(totals.trouble)
        if minute >= minutes:
            return


async def run(minutes: float, streams: int, seed: int) -> Totals:
    """Run for so many minutes, and until all streams have ended; return the totals."""
    totals, upstream = Totals(), Upstream({})
    settings = {f"SPEECHBRIDGE_{name}": value for name, value in SETTINGS.items()}
    async with serving_upstream(upstream, handshake_timeout=None) as upstream_server:
        with serving(**settings, SPEECHBRIDGE_REVAI_URL=upstream_server.url) as (service, announced):
            soak = Soak(url_in(announced), upstream, totals, seed, time.monotonic() + 60 * minutes)
            async with asyncio.TaskGroup() as group:
                group.create_task(watch(service.pid, totals, minutes))
                for place in range(streams):
                    group.create_task(soak.fill(place))
            print("after the last stream:", *figures(service.pid))
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    totals = asyncio.run(run(options.minutes, options.streams, options.seed))
    print(
        *totals.trouble, f"lost: {totals.samples} samples, {totals.missing} words; doubled: {totals.doubled}", sep="\n"
    )
    sys.exit(bool(totals.trouble))


if __name__ == "__main__":
    main()
