"""What sound without speech does to the embedded recognizer, alone and beside a speaker.

python -m tests.bench.noise
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from speechbridge.protocol.messages import EOS, Final, Partial, parse_message
from speechbridge.testing.load import cpu_seconds
from tests.bench.live import recognizer, sentences, speak
from tests.helpers.clip import RATE
from tests.helpers.service import STREAM
from tests.helpers.sounds import sounds
from tests.helpers.tables import table

if TYPE_CHECKING:
    from tests.bench.live import Delays

SECONDS = 20.0
STREAMS = 4  # with the sound, beside the speaker's stream


async def alone(url: str, audio: bytes) -> tuple[int, float]:
    """Send a sound in real time; return the number of words received, and the seconds from EOS to the close."""
    words = 0
    async with connect(url + STREAM, proxy=None, compression=None, ping_interval=None) as socket:

        async def read() -> None:
            nonlocal words
            async for text in socket:
                message = parse_message(text)
                words += len(message.elements) if isinstance(message, Partial | Final) else 0

        reading = asyncio.create_task(read())
        begun = time.monotonic()
        for nth in range(0, len(audio), 3200):
            await asyncio.sleep(begun + (nth + 3200) / 2 / RATE - time.monotonic())
            await socket.send(audio[nth : nth + 3200])
        ending = time.monotonic()
        await socket.send(EOS)
        await reading
    return words, time.monotonic() - ending


async def beside_a_speaker() -> str:
    """Measure each sound: words, time to close and CPU; and the delays of speech beside four streams of the sound."""
    rows = []
    with recognizer("--streams", f"{STREAMS + 1}") as (url, pid):
        spoken = sentences()[:4]
        before = await speak(url, spoken)
        for name, sound in sounds().items():
            began = cpu_seconds(pid)
            words, close = await alone(url, sound)
            cpu = (cpu_seconds(pid) - began) / SECONDS
            async with asyncio.TaskGroup() as beside:
                for _ in range(STREAMS):
                    beside.create_task(alone(url, sound))
                found = await speak(url, spoken)
            rows.append([name, f"{words}", f"{close:.2f}", f"{cpu:.3f}", _delays(before, found)])
        rows.insert(0, ["nothing", "", "", "", _delays(before, await speak(url, spoken))])
    beside_it = f"delays of a speaker beside {STREAMS} of it: partial, final, s"
    return table(["20 s of", "words", "close after EOS, s", "CPU", beside_it], rows)


def _delays(before: Delays, after: Delays) -> str:
    partials = [statistics.median(delays.partials) for delays in (before, after)]
    finals = [statistics.median(delays.finals) for delays in (before, after)]
    return f"{partials[1]:.2f}, {finals[1]:.2f} (alone {partials[0]:.2f}, {finals[0]:.2f})"


if __name__ == "__main__":
    print(asyncio.run(beside_a_speaker()))
