"""Record the captions page while it captions speech: `docs/live.webp`, for the README.

python -m tests.bench.moving
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import soundfile

from tests.helpers.browser import opened, state, wav
from tests.helpers.clip import READING
from tests.helpers.service import service

PICTURE = Path(__file__).parents[2] / "docs" / "live.webp"
SIZE = {"width": 800, "height": 420}
SECONDS, FRAME = 9.0, 0.1
RATE = 1000  # ticks a second of the picture's clock
OPTIONS = {"quality": "60", "compression_level": "6", "loop": "0"}


async def record() -> list[tuple[float, bytes]]:
    """Return the seconds and the PNG of each frame."""
    samples, rate = soundfile.read(READING, dtype="int16")
    frames: list[tuple[float, bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        microphone = wav(Path(folder) / "speech.wav", samples.tobytes(), rate)
        async with service(None) as server, opened(server.url, microphone=microphone, viewport=SIZE) as page:
            await page.keyboard.press("Space")
            await state(page, "live")
            begun = time.monotonic()
            while (now := time.monotonic() - begun) < SECONDS:
                frames.append((now, await page.screenshot()))
                await asyncio.sleep(FRAME - (time.monotonic() - begun) % FRAME)
    return frames


def encode(frames: list[tuple[float, bytes]]) -> None:
    with av.open(PICTURE, "w") as output:
        stream = output.add_stream("libwebp_anim", rate=round(1 / FRAME), options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = SIZE["width"], SIZE["height"], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, RATE)
        for seconds, png in frames:
            with av.open(io.BytesIO(png), "r") as picture:
                frame = next(picture.decode(video=0)).reformat(format="yuv420p")
            frame.pts, frame.time_base = round(seconds * RATE), stream.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def main() -> None:
    encode(asyncio.run(record()))
    print(f"{PICTURE.name}: {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
