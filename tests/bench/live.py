"""Live streams on the embedded recognizer: how late its partials and finals are, and what they cost.

    python -m tests.bench.live STREAMS SECONDS

Each stream sends sentences from this project's clips in an order of its own, in real time, in chunks of 100 ms, with a
second of quiet before each sentence. The delay of a first partial counts from when the sentence's speech begins, the
delay of a final from when it ends; both are known from the clips' loudness.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from websockets.asyncio.client import connect

from speechbridge.protocol.messages import EOS, Final, Partial, parse_message
from speechbridge.testing.load import cpu_seconds
from tests.bench.voices import RATE, load, pcm
from tests.helpers.clip import FIRST_SENTENCE, READING, TWO_VOICES
from tests.helpers.processes import status
from tests.helpers.service import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.voices import Samples

CHUNK = RATE // 10
QUIET = 1.0  # seconds between two sentences
ROOM = 0.0006  # of full scale: the noise of a quiet room
LOUD = 0.02  # of a sentence's peak: its speech begins with the first louder sample, and ends with the last
NEAR = 0.4  # seconds by which a final's end may differ from its sentence's


@dataclass(frozen=True)
class Sentence:
    """A sentence with quiet before it; `begin` and `end` of the speech, in seconds."""

    samples: Samples
    begin: float
    end: float


@dataclass
class Delays:
    """In seconds."""

    partials: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    spoken: int = 0  # sentences
    words: int = 0
    close: float = 0.0  # from EOS to the close


@dataclass(frozen=True)
class Figures:
    """How late so many live streams were answered, and what they cost."""

    streams: int
    first_partial: tuple[float, float]  # seconds: median, p90
    final: tuple[float, float]
    cpu: float  # share of a core that a stream takes
    memory: float  # MB, the process' peak
    unanswered: int  # sentences without a final


@contextmanager
def recognizer(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run the recognizer in a process of its own; yields its URL and the process' id."""
    command = [sys.executable, "-m", "speechbridge.recognizer", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().removeprefix("listening on ").strip(), process.pid
        finally:
            process.terminate()


def sentences() -> list[Sentence]:
    reading, voices = load(READING), load(TWO_VOICES)
    cuts = [int(seconds * RATE) for seconds in (0.0, FIRST_SENTENCE, FIRST_SENTENCE + 5.3)]
    parts = [reading[cuts[0] : cuts[1]], reading[cuts[1] : cuts[2]], reading[cuts[2] :]]
    parts += [voices[: 5 * RATE], voices[5 * RATE :]]
    return [_sentence(part) for part in parts]


def _sentence(speech: Samples) -> Sentence:
    dice = np.random.default_rng(1)
    quiet = int(QUIET * RATE)
    room = dice.standard_normal(len(speech) + quiet).astype(np.float32) * ROOM
    room[quiet:] += speech
    step = RATE // 100
    level = np.abs(speech[: len(speech) // step * step]).reshape(-1, step).max(axis=1)
    loud = np.flatnonzero(level > LOUD * level.max())
    return Sentence(room, QUIET + float(loud[0]) / 100, QUIET + float(loud[-1] + 1) / 100)


async def speak(url: str, spoken: Sequence[Sentence]) -> Delays:
    """Send sentences in real time; return how late the answers were."""
    found = Delays(spoken=len(spoken))
    samples = np.concatenate([sentence.samples for sentence in spoken])
    starts = list(itertools.accumulate((len(s.samples) / RATE for s in spoken), initial=0.0))
    spans = [(start + s.begin, start + s.end) for start, s in zip(starts, spoken, strict=False)]
    audio = pcm(samples)
    async with connect(url + STREAM, proxy=None, compression=None, ping_interval=None) as socket:
        await socket.recv()
        begun = time.monotonic()

        async def read() -> None:
            shown, ended = set[int](), dict[int, float]()
            async for text in socket:
                late, message = time.monotonic() - begun, parse_message(text)
                if not isinstance(message, Partial | Final) or not message.elements:
                    continue
                nth = next((n for n, (_, end) in enumerate(spans) if message.ts < end), len(spans) - 1)
                if isinstance(message, Partial) and nth not in shown:
                    shown.add(nth)
                    found.partials.append(late - spans[nth][0])
                elif isinstance(message, Final):
                    found.words += len(message.words)
                    last = next((n for n, (_, end) in enumerate(spans) if abs(message.end_ts - end) < NEAR), None)
                    if last is not None:
                        ended[last] = late - spans[last][1]
            found.finals += ended.values()

        reading = asyncio.create_task(read())
        for nth in range(0, len(audio), CHUNK * 2):
            await asyncio.sleep(begun + (nth / 2 + CHUNK) / RATE - time.monotonic())
            await socket.send(audio[nth : nth + CHUNK * 2])
        ending = time.monotonic()
        await socket.send(EOS)
        await reading
        found.close = time.monotonic() - ending
    return found


async def crowd(url: str, pid: int, streams: int, seconds: float) -> Figures:
    """Run `streams` live streams at once, each about `seconds` long."""
    dice, all_of_them = random.Random(1), sentences()
    mean = statistics.mean(len(sentence.samples) / RATE for sentence in all_of_them)

    async def one() -> Delays:
        spoken = [dice.choice(all_of_them) for _ in range(max(1, round(seconds / mean)))]
        await asyncio.sleep(dice.uniform(0, 5))
        return await speak(url, spoken)

    began, cpu = time.monotonic(), cpu_seconds(pid)
    found = await asyncio.gather(*(one() for _ in range(streams)))
    spoken = sum(delays.spoken for delays in found)
    audio = spoken * mean
    partials = [delay for delays in found for delay in delays.partials]
    finals = [delay for delays in found for delay in delays.finals]
    print(f"{streams} streams: {time.monotonic() - began:.0f} s, {spoken} sentences", file=sys.stderr)
    return Figures(
        streams,
        median_and_p90(partials),
        median_and_p90(finals),
        (cpu_seconds(pid) - cpu) / audio,
        peak(pid),
        spoken - len(finals),
    )


def median_and_p90(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=10)[-1] if len(values) > 1 else values[0]


def peak(pid: int) -> float:
    """Return the most memory that a process has had, in MB."""
    return status(pid)["VmHWM"] / 1000


def main() -> None:
    streams, seconds = int(sys.argv[1]), float(sys.argv[2])
    with recognizer("--streams", str(streams)) as (url, pid):
        print(asyncio.run(crowd(url, pid, streams, seconds)))


if __name__ == "__main__":
    main()
