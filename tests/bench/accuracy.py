"""How well and how fast the embedded recognizer transcribes: word error rates, delays, CPU and memory.

    python -m tests.bench.accuracy            everything, about 15 minutes; writes its part of docs/recognizer.md
    python -m tests.bench.accuracy words      word error rates alone; writes no file

Words are compared without capitals and punctuation; numbers and abbreviations are compared as they are spoken. A set of
speech that is not on this machine is skipped, and the result names it. Each set has a reference transcript.
"""

from __future__ import annotations

import asyncio
import platform
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import jiwer
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.client.stream import connect
from speechbridge.protocol.messages import Final, parse_message
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.spoken import spoken
from tests.bench.live import Figures, crowd, recognizer
from tests.bench.noise import beside_a_speaker
from tests.bench.report import keep
from tests.bench.subjects import cores
from tests.bench.voices import (
    Missing,
    Speech,
    by_espeak,
    by_flite,
    clean,
    in_the_wheel,
    noisy,
    pcm,
    recorded,
    shipped,
    telephone,
)
from tests.helpers.tables import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path("docs/recognizer.md")
PART = re.compile(r"(?<=<!-- written by python -m tests.bench.accuracy -->\n).*(?=<!-- end -->)", re.DOTALL)

CONDITIONS: dict[str, Callable[[Speech], Speech]] = {
    "clean": clean,
    "telephone, 8 kHz": telephone,
    "noise at 20 dB": noisy(20),
    "noise at 10 dB": noisy(10),
}
SETS: dict[str, Callable[[], list[Speech]]] = {
    "recordings, 5 clips": recorded,
    "recordings in the model's wheel": in_the_wheel,
    "our own clips, one reader and two synthetic voices": shipped,
    "flite, 4 voices": by_flite,
    "espeak-ng, 3 voices": by_espeak,
}
CROWDS = (1, 4, 8, 16, 24)  # live streams at once; 24 are more than eight a core on a machine with two
SECONDS = 60.0  # of speech in each live stream

MAC = MediaConfig("audio/x-raw", "interleaved", 16000, "S16LE", 1)


def errors(transcripts: list[tuple[str, str]]) -> tuple[float, int]:
    """Return the word error rate of pairs of reference and transcript, and the number of words in the references."""
    pairs = [(_words(reference), _words(transcript)) for reference, transcript in transcripts]
    measured = jiwer.process_words([reference for reference, _ in pairs], [transcript for _, transcript in pairs])
    return measured.wer, sum(len(reference.split()) for reference, _ in pairs)


def _words(text: str) -> str:
    return " ".join(word for written in text.split() for word in spoken(written))


async def transcribe(url: str, speech: Speech) -> str:
    """Return the transcript of speech that is sent as fast as the service takes it."""
    async with connect(url, StreamRequest(ContentType.raw(speech.rate))) as stream:

        async def speak() -> None:
            audio = pcm(speech.samples)
            for start in range(0, len(audio), 3200):
                await stream.send(audio[start : start + 3200])
            await stream.end()

        speaking = asyncio.create_task(speak())
        finals = [message.text async for message in stream if isinstance(message, Final)]
        await speaking
    return " ".join(finals)


def transcribe_live(url: str, speech: Speech) -> str:
    """Return the transcript that Rev.ai's SDK, unmodified, receives for speech sent in real time."""
    audio = pcm(speech.samples)

    def chunks() -> Iterator[bytes]:
        begun = time.monotonic()
        for start in range(0, len(audio), 3200):
            time.sleep(max(0.0, begun + (start + 3200) / 32000 - time.monotonic()))
            yield audio[start : start + 3200]

    client = RevAiStreamingClient("none", MAC, url=url, on_connected=lambda _: None, on_close=lambda *_: None)
    messages = [parse_message(response) for response in client.start(chunks())]
    client.client.shutdown()
    return " ".join(message.text for message in messages if isinstance(message, Final))


def word_errors(url: str) -> tuple[list[list[str]], list[str], dict[str, float]]:
    """Return the rows of the table, why sets were skipped, and the figures."""
    rows, missing, figures = [], [], {}
    for name, speeches in SETS.items():
        try:
            found = speeches()
        except Missing as reason:
            missing.append(f"{name}: {reason}")
            continue
        cells, count = [], 0
        for condition, change in CONDITIONS.items():
            rate, count = errors([(speech.words, asyncio.run(transcribe(url, change(speech)))) for speech in found])
            figures[f"{name}, {condition}"] = rate
            cells.append(f"{100 * rate:.1f}")
            print(name, condition, f"{100 * rate:.1f} %", file=sys.stderr)
        rows.append([name, f"{count}", *cells])
    return rows, missing, figures


def live_errors(url: str) -> str:
    """Describe how well recordings are transcribed through Rev.ai's SDK in real time."""
    try:
        found = recorded() + in_the_wheel()
    except Missing as reason:
        return f"Not measured through Rev.ai's SDK: {reason}."
    with ThreadPoolExecutor(len(found)) as threads:
        texts = list(threads.map(lambda speech: transcribe_live(url, speech), found))
    rate, count = errors([(speech.words, text) for speech, text in zip(found, texts, strict=True)])
    first = len(recorded())
    theirs, _ = errors([(speech.words, text) for speech, text in zip(found[:first], texts, strict=False)])
    text = f"Through the unmodified Rev.ai SDK, in real time, the {count} words of the first two sets:"
    return f"{text} {100 * rate:.1f} % errors; the first set alone: {100 * theirs:.1f} %."


def crowds() -> list[Figures]:
    found = []
    for streams in CROWDS:
        with recognizer("--streams", f"{streams}") as (url, pid):
            found.append(asyncio.run(crowd(url, pid, streams, SECONDS)))
    return found


def main() -> None:
    with recognizer() as (url, _):
        rows, missing, figures = word_errors(url)
        words = table(["word errors, %", "words", *CONDITIONS], rows)
        words += "".join(f"\nNot measured: {reason}.\n" for reason in missing)
        if sys.argv[1:] == ["words"]:
            print(words)
            return
        words += f"\n{live_errors(url)}\n"
    streams = crowds()
    live = table(
        ["live streams", "first partial, s", "final, s", "CPU a stream", "memory, MB", "unanswered"],
        [
            [
                f"{found.streams}",
                f"{found.first_partial[0]:.2f} ({found.first_partial[1]:.2f})",
                f"{found.final[0]:.2f} ({found.final[1]:.2f})",
                f"{found.cpu:.2f}",
                f"{found.memory:.0f}",
                f"{found.unanswered}",
            ]
            for found in streams
        ],
    )
    sounds = asyncio.run(beside_a_speaker())
    machine = f"On {len(cores())} cores, Python {platform.python_version()}, {platform.system()}."
    text = f"{machine}\n\n{words}\n{live}\n{sounds}"
    figures |= {f"{found.streams} streams, final": found.final[0] for found in streams}
    keep("accuracy", "How well and how fast does the embedded recognizer transcribe?", text, figures)
    PAGE.write_text(PART.sub(lambda _: f"\n{text}\n", PAGE.read_text()))


if __name__ == "__main__":
    main()
