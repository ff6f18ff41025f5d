"""What decoding a live stream takes: the share of a core, and how much later the SDK gets the sound.

python -m tests.bench.codecs

CPU time is the decoder's alone, fed in pieces of 100 ms. What a decoder holds back is the sound that it returns only
when the stream is finished: it is always that far behind the bytes that have arrived. Through the service, a client
sends 100 ms at a time in real time; a delay counts from when a message is sent until the SDK has its sound. The first
row is raw samples, for comparison.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import quote

from websockets.asyncio.client import connect

from speechbridge.codecs import Decoder
from speechbridge.protocol.request import PATH, ContentType
from tests.helpers import clip
from tests.helpers.encoded import FORMS, OGG, WEBM, Form, reading
from tests.helpers.service import service
from tests.helpers.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 15.0
LIVE = 5.0  # seconds, through the service
SHOWN = (WEBM, FORMS[4], OGG, FORMS[9], FORMS[10], FORMS[11], FORMS[18], FORMS[20], FORMS[23], FORMS[26], FORMS[39])
RAW = Form("audio/x-raw;layout=interleaved;rate=16000;format=S16LE;channels=1", "s16le", "pcm_s16le")


def pieces(form: Form, seconds: float) -> list[bytes]:
    """Return the reading in pieces of about 100 ms."""
    data = reading(form, seconds)
    size = max(1, int(len(data) * 0.1 / seconds))
    return [data[start : start + size] for start in range(0, len(data), size)]


def cpu(form: Form) -> float:
    """Return the share of a core that a decoder takes: the best of three."""
    shares = []
    for _ in range(3):
        decoder, begun = Decoder(ContentType.parse(form.media)), time.thread_time()
        size = sum(len(pcm) for piece in pieces(form, SECONDS) for pcm in decoder.feed(piece))
        size += sum(map(len, decoder.finish()))
        shares.append((time.thread_time() - begun) / (size / 32000))
    return min(shares)


def held_back(form: Form) -> float:
    """Return how many seconds a decoder holds back at most, from a fifth of the stream on."""
    data, worst = reading(form, 4.0), 0.0
    for share in range(20, 100, 2):
        decoder = Decoder(ContentType.parse(form.media))
        list(decoder.feed(data[: len(data) * share // 100]))
        worst = max(worst, sum(map(len, decoder.finish())) / 32000)
    return worst


async def delays(form: Form) -> list[float]:
    """Return how long each message took until the SDK had all sound that can be decoded without the next message."""
    arrived: list[tuple[int, float]] = []

    def sdk(audio: Iterator[bytes]) -> Iterator[str]:
        received = 0
        for chunk in audio:
            received += len(chunk)
            arrived.append((received, time.perf_counter()))
        yield from ()

    sent: list[tuple[int, float]] = []
    decoder, decodable = Decoder(ContentType.parse(form.media)), 0
    query = f"content_type={quote(form.media)}"
    async with service(sdk) as server, connect(f"{server.url}{PATH}?{query}", compression=None, proxy=None) as socket:
        begun = time.perf_counter()
        for number, piece in enumerate(pieces(form, LIVE)):
            await asyncio.sleep(begun + number / 10 - time.perf_counter())
            decodable += len(piece) if form is RAW else sum(map(len, decoder.feed(piece)))
            sent.append((decodable, time.perf_counter()))
            await socket.send(piece)
        await asyncio.sleep(0.2)
    return [
        next((at for received, at in arrived if received >= due), float("inf")) - when
        for before, (due, when) in zip([0, *(due for due, _ in sent)], sent, strict=False)
        if due > before
    ]


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def main() -> str:
    rows: list[tuple[str, ...]] = []
    for form in (RAW, *SHOWN):
        took = sorted(asyncio.run(delays(form)))
        decoder = (0.0, 0.0) if form is RAW else (cpu(form), held_back(form))
        name = f"{form.media.partition(';')[0]}, {form.codec.removeprefix('lib')}, {form.rate} Hz, {form.channels} ch"
        rows.append(
            (
                name,
                f"{100 * decoder[0]:.2f} %",
                milliseconds(decoder[1]),
                milliseconds(median(took)),
                milliseconds(took[int(len(took) * 0.9)]),
            )
        )
    head = ("stream", "CPU, share of a core", "held back, ms", "to the SDK, p50, ms", "p90, ms")
    return table(head, rows)


if __name__ == "__main__":
    assert clip.READING.exists()
    print(main())
