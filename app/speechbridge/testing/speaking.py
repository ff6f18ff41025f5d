"""Runs many streams of real speech at once, and measures the delays of their finals.

    python -m speechbridge.testing.speaking URL STREAMS SECONDS

Each stream sends so many seconds of speech in real time, from its own place in the recording that is part of the
embedded recognizer's model. The delay of a final counts from when the last sound that it covers was sent. Prints JSON:
the delays in seconds, and the number of streams that failed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from speechbridge.client.dial import NoConnection
from speechbridge.client.stream import StreamError, connect, live
from speechbridge.protocol.messages import Final, Partial
from speechbridge.protocol.request import ContentType, StreamRequest

CHUNK = 0.1  # seconds
APART, WITHIN = 0.37, 5.0  # seconds between two streams' beginnings, and for all: streams must not pause at one time
OPEN_TIMEOUT = 30.0


class NoRecording(Exception):
    """There is no recording on this machine. The text says which wheel has it."""


@dataclass
class Found:
    """The results of all streams together."""

    delays: list[float] = field(default_factory=list)
    failed: int = 0


def recording() -> tuple[bytes, int]:
    """Return real speech as 16-bit mono samples, and their rate. Raises NoRecording."""
    spec = find_spec("moonshine_voice")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "assets", "two_cities.wav")
        if path.is_file():
            with wave.open(str(path)) as file:
                return file.readframes(file.getnframes()), file.getframerate()
    raise NoRecording("there is no recorded speech: it comes with moonshine-voice, the wheel of the English model")


async def speak(url: str, streams: int, seconds: float) -> Found:
    """Run so many streams at once. Raises NoRecording. Cancellation: all are dropped."""
    samples, rate = recording()
    request, size, found = StreamRequest(ContentType.raw(rate)), 2 * int(rate * CHUNK), Found()

    async def one(number: int) -> None:
        begin = size * (29 * number) % len(samples)
        audio = (samples[begin:] + samples[:begin])[: size * int(seconds / CHUNK)]
        await asyncio.sleep(number * APART % WITHIN)
        await _speak(url, request, [audio[start : start + size] for start in range(0, len(audio), size)], found)

    await asyncio.gather(*map(one, range(streams)))
    return found


async def _speak(url: str, request: StreamRequest, chunks: list[bytes], found: Found) -> None:
    clock = asyncio.get_running_loop().time
    try:
        async with connect(url, request, open_timeout=OPEN_TIMEOUT) as stream:
            begun = clock()

            async def send() -> None:
                for number, chunk in enumerate(chunks):
                    await asyncio.sleep(begun + number * CHUNK - clock())
                    await stream.send(chunk)
                await stream.end()

            def received(message: Partial | Final) -> None:
                if isinstance(message, Final) and message.words:
                    found.delays.append(clock() - begun - message.end_ts)

            await live(stream, send(), received)
    except (NoConnection, StreamError):
        found.failed += 1


def main() -> None:
    url, streams, seconds = sys.argv[1:]
    print(json.dumps(vars(asyncio.run(speak(url, int(streams), float(seconds))))))


if __name__ == "__main__":
    main()
