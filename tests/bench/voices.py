"""Speech whose words are known: recordings, and synthetic voices; clean, by telephone, and in noise."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr  # type: ignore[import-untyped] # ships no stubs

from tests.helpers.clip import READ, READING, SPOKEN, TWO_VOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]  # 16 kHz mono, -1 to 1

RATE = 16000
TELEPHONE = 8000  # samples a second
SHARED = Path(__file__).parents[2] / ".." / "shared" / "speech"

# Real speech from the test data of cmusphinx/pocketsphinx, in a folder beside this checkout.
RECORDED = {
    "goforward": "go forward ten meters",
    "something": "go somewhere and do something",
    "librivox-0870": "and mister john dashwood had then leisure to consider how much there might be prudently in his"
    " power to do for them",
    "librivox-0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "librivox-0930": "he might even have been made amiable himself",
}

# Real speech in the wheel of the model. Nothing in this project was tuned to it.
IN_THE_WHEEL = {
    "two_cities": "it was the best of times it was the worst of times it was the age of wisdom it was the age of"
    " foolishness it was the epoch of belief it was the epoch of incredulity it was the season of light it was the"
    " season of darkness it was the spring of hope it was the winter of despair we had everything before us we had"
    " nothing before us we were all going direct to heaven we were all going direct the other way in short the period"
    " was so far like the present period that some of its noisiest authorities insisted on its being received for good"
    " or for evil in the superlative degree of comparison only",
    "beckett": "ever tried ever failed no matter try again fail again fail better",
}

# The first two lists of the Harvard sentences, written for measurements of telephones: IEEE Recommended Practice, 1969.
SENTENCES = (
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It's easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
    "The boy was there when the sun rose.",
    "A rod is used to catch pink salmon.",
    "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.",
    "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.",
    "Smoky fires lack flame and heat.",
    "The soft cushion broke the man's fall.",
    "The salt breeze came across from the sea.",
    "The girl at the booth sold fifty bonds.",
)
FLITE = ("slt", "rms", "awb", "kal16")
ESPEAK = ("en-us", "en-gb", "en-gb-scotland")


class Missing(Exception):
    """A set of speech is not on this machine. Its text says what is missing."""


@dataclass(frozen=True)
class Speech:
    name: str
    words: str  # the reference transcript
    samples: Samples
    rate: int = RATE


def shipped() -> list[Speech]:
    """The clips of this project."""
    return [Speech("reading", " ".join(READ), load(READING)), Speech("two voices", " ".join(SPOKEN), load(TWO_VOICES))]


def recorded() -> list[Speech]:
    """Real speech beside this checkout. Raises Missing."""
    if not SHARED.is_dir():
        raise Missing("the recordings are not beside this checkout, in ../shared/speech")
    return [Speech(name, words, load(SHARED / f"{name}.wav")) for name, words in RECORDED.items()]


def in_the_wheel() -> list[Speech]:
    """Real speech in the wheel of moonshine-voice. Raises Missing."""
    spec = find_spec("moonshine_voice")
    folders = [Path(folder) / "assets" for folder in (spec.submodule_search_locations or ())] if spec else []
    for folder in folders:
        if all((folder / f"{name}.wav").is_file() for name in IN_THE_WHEEL):
            return [Speech(name, words, load(folder / f"{name}.wav")) for name, words in IN_THE_WHEEL.items()]
    raise Missing("the wheel of moonshine-voice is not installed whole")


def by_flite() -> list[Speech]:
    """Twenty sentences by four voices. Raises Missing."""
    return _synthetic("flite", FLITE, lambda voice, text, path: ["-voice", voice, "-t", text, "-o", path])


def by_espeak() -> list[Speech]:
    """The same sentences by three voices. Raises Missing."""
    return _synthetic("espeak-ng", ESPEAK, lambda voice, text, path: ["-v", voice, "-w", path, text])


def _synthetic(program: str, voices: Sequence[str], arguments: Callable[[str, str, str], list[str]]) -> list[Speech]:
    if not shutil.which(program):
        raise Missing(f"{program} is not installed: apt-get install {program}")
    pause = np.zeros(RATE, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentence.wav"
        speeches = []
        for voice in voices:
            parts = [_synthesize([program, *arguments(voice, text, str(path))], path) for text in SENTENCES]
            samples = np.concatenate([samples for part in parts for samples in (part, pause)])
            speeches.append(Speech(voice, " ".join(SENTENCES), samples))
        return speeches


def clean(speech: Speech) -> Speech:
    return speech


def telephone(speech: Speech) -> Speech:
    """Keep what a telephone line transmits: 300 to 3400 Hz, sampled at 8 kHz."""
    narrow = soxr.resample(speech.samples, RATE, TELEPHONE)
    spectrum = np.fft.rfft(narrow)
    hertz = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    return replace(speech, samples=np.fft.irfft(spectrum, len(narrow)).astype(np.float32), rate=TELEPHONE)


def noisy(decibels: float) -> Callable[[Speech], Speech]:
    """Return a function that adds white noise, so many dB below the speech."""

    def add(speech: Speech) -> Speech:
        loud = speech.samples[np.abs(speech.samples) > np.abs(speech.samples).max() / 100]  # pauses do not count
        noise = np.random.default_rng(1).standard_normal(len(speech.samples)).astype(np.float32)
        level = np.sqrt((loud**2).mean() / 10 ** (decibels / 10))
        return replace(speech, samples=speech.samples + noise * level)

    return add


def pcm(samples: Samples) -> bytes:
    return bytes((samples.clip(-1, 1) * 32767).astype("<i2"))


def load(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE).astype(np.float32)  # type: ignore[no-any-return]


def _synthesize(command: list[str], path: Path) -> Samples:
    subprocess.run(command, check=True, capture_output=True)
    return load(path)
