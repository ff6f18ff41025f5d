"""Many streams of real speech at once, and how late their finals are.

    python -m speechbridge.testing.speaking URL STREAMS SECONDS

Each speaks for so many seconds at the pace of speech, from a place of its own in the recording that comes with the
embedded recognizer's model. A final's delay is from when the last sound that it covers was sent. Prints JSON: the
delays in seconds, and how many streams failed.
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
APART, WITHIN = 0.37, 5.0  # seconds between two streams' beginnings, and of all: not all are to pause at once
OPEN_TIMEOUT = 30.0


class NoRecording(Exception):
    """There is no recording on this machine. Its text says which wheel has it."""


@dataclass
class Found:
    """What all streams together met."""

    delays: list[float] = field(default_factory=list)
    failed: int = 0


def recording() -> tuple[bytes, int]:
    """Return real speech, 16-bit mono samples, and their rate. Raises NoRecording."""
    spec = find_spec("moonshine_voice")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "assets", "two_cities.wav")
        if path.is_file():
            with wave.open(str(path)) as file:
                return file.readframes(file.getnframes()), file.getframerate()
    raise NoRecording("there is no recorded speech: it comes with moonshine-voice, the wheel of the English model")


async def speak(url: str, streams: int, seconds: float) -> Found:
    """Have so many streams speak at once. Raises NoRecording. Cancellation: all are dropped."""
    samples, rate = recording()
    request, size, found = StreamRequest(ContentType.raw(rate)), 2 * int(rate * CHUNK), Found()

    async def one(number: int) -> None:
        begin = size * (29 * number) % len(samples)
        said = (samples[begin:] + samples[:begin])[: size * int(seconds / CHUNK)]
        await asyncio.sleep(number * APART % WITHIN)
        await _speak(url, request, [said[start : start + size] for start in range(0, len(said), size)], found)

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

            def heard(message: Partial | Final) -> None:
                if isinstance(message, Final) and message.words:
                    found.delays.append(clock() - begun - message.end_ts)

            await live(stream, send(), heard)
    except (NoConnection, StreamError):
        found.failed += 1


def main() -> None:
    url, streams, seconds = sys.argv[1:]
    print(json.dumps(vars(asyncio.run(speak(url, int(streams), float(seconds))))))


if __name__ == "__main__":
    main()
