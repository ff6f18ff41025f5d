"""Runs many connections of the `openai` package to a service: `python -m tests.compat.openai_realtime`.

Each kind of client (dialects, turns, formats) has an equal share of the connections, with the installed version of the
package and with an older one, which is installed into a folder.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr  # type: ignore[import-untyped] # it has no types

from tests.helpers import clip
from tests.helpers import packages as packaged

OLDER = "openai[realtime]==2.8.1"  # of November 2025
CLIENT = Path(__file__).parent / "openai_client.py"


@dataclass(frozen=True)
class Job:
    """The job of the connections of one process."""

    url: str = ""
    key: str = "none"
    audio: str = ""  # a file
    format: str = "audio/pcm"
    vad: bool = True
    beta: bool = False
    early: bool = False  # the client sends audio before it updates the session
    pace: float = 1.0  # as a multiple of real time
    connections: int = 1
    at_once: int = 2


KINDS = {
    "vad": {},
    "turns": {"vad": False},
    "beta": {"beta": True},
    "beta turns": {"beta": True, "vad": False},
    "mu-law": {"format": "audio/pcmu"},
    "A-law": {"format": "audio/pcma", "vad": False},
    "early audio": {"early": True},
}


@cache
def speech(form: str, folder: Path) -> str:
    """Return a file with the reading's first sentence in a format."""
    samples = np.frombuffer(clip.pcm(seconds=clip.FIRST_SENTENCE) + clip.silence(1.0), "<i2")
    path = folder / form.replace("/", "-")
    if form == "audio/pcm":
        path.write_bytes(soxr.resample(samples, clip.RATE, 24000).astype("<i2").tobytes())
        return str(path)
    scaled = soxr.resample(samples, clip.RATE, 8000).astype(np.float64) / 32768
    path.write_bytes((mu_law if form == "audio/pcmu" else a_law)(scaled))
    return str(path)


def mu_law(samples: Any) -> bytes:
    """Encode samples of -1 to 1 with the formula of G.711 for mu-law."""
    curve = np.log1p(255 * np.abs(samples)) / np.log(256)
    codes = np.minimum((curve * 128).astype(int), 127)
    return bytes(((~(codes | np.where(samples < 0, 128, 0))) & 255).astype(np.uint8))


def a_law(samples: Any) -> bytes:
    """Encode samples of -1 to 1 with the formula of G.711 for A-law."""
    size, scale = np.abs(samples), 1 + np.log(87.6)
    curve = np.where(size < 1 / 87.6, 87.6 * size / scale, (1 + np.log(np.maximum(87.6 * size, 1))) / scale)
    codes = np.minimum((curve * 128).astype(int), 127)
    return bytes(((codes | np.where(samples < 0, 0, 128)) ^ 0x55).astype(np.uint8))


def run(job: Job, packages: Path | None = None) -> list[dict[str, Any]]:
    """Run a process of clients; return what each connection received."""
    return packaged.run(CLIENT, asdict(job), packages)


def faults(seen: dict[str, Any], job: Job) -> list[str]:
    """Return what is wrong in what a connection received; empty if nothing is."""
    transcripts = [transcript for _, transcript, _ in seen["completed"]]
    truth, found = clip.READ[0].lower().split(), " ".join(transcripts).lower().split()
    right = sum(word.strip(".,") in {one.strip(".,") for one in found} for word in truth) / len(truth)
    least = 0.9 if job.vad and job.format == "audio/pcm" else 0.75  # a turn may end within a word; 8 kHz is harder
    texts = dict.fromkeys(seen["committed"], "")
    for item, delta in seen["deltas"]:
        texts[item] = texts.get(item, "") + delta
    checks = {
        f"raised {seen['raised']}": seen["raised"] is None,
        "session.created is not the first event": seen["kinds"][:1] == ["session.created"],
        f"errors {seen['errors']}": [error[3] for error in seen["errors"]] == ["the_last"],
        "an item is not committed and completed once": [item for item, _, _ in seen["completed"]] == seen["committed"]
        and len(set(seen["committed"])) == len(seen["committed"]),
        "a delta is of no committed item": set(texts) == set(seen["committed"]),
        "no delta came before the last audio": seen["live"] > 0,
        f"{right:.0%} of the words: {transcripts}": right >= least,
        "tokens are not the transcript": all(
            "".join(text for text, _, _ in tokens) == transcript and all(one <= 0 for _, one, _ in tokens)
            for _, transcript, tokens in seen["completed"]
        ),
        "the deltas' words are not those of the transcript": all(
            words(texts[item]) == words(transcript) for item, transcript, _ in seen["completed"]
        ),
    }
    if not job.vad:
        checks[f"{len(transcripts)} items of 2 commits"] = len(transcripts) == 2
    return [fault for fault, is_fine in checks.items() if not is_fine]


def words(text: str) -> int:
    """Return the number of words of a text: a final may correct them, but has as many."""
    return len(text.split())


def connect(share: packaged.Share) -> list[tuple[dict[str, Any], list[str]]]:
    job = Job(url=f"{share.url}/v1", connections=share.connections, **KINDS[share.kind])  # type: ignore[arg-type] # each is a field
    job = replace(job, audio=speech(job.format, share.folder))
    return [(seen, faults(seen, job)) for seen in run(job, share.packages)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.compat.openai_realtime", description=__doc__.partition("\n")[0]
    )
    packaged.run_shares(parser, KINDS, [OLDER], connect)


if __name__ == "__main__":
    main()
