"""Runs many connections of the `deepgram-sdk` package to a service: `python -m tests.compat.deepgram_live`.

Each kind of client has an equal share of the connections, with each major version of the package that is in use. Older
versions are installed into folders.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.helpers import clip
from tests.helpers import packages as packaged
from tests.helpers.encoded import FORMS, OGG, WEBM, Form, encoded

OLDER = {major: f"deepgram-sdk>={major},<{major + 1}" for major in (3, 4, 5, 6)}
CLIENT = Path(__file__).parent / "deepgram_client.py"
SPEECH = clip.pcm(seconds=clip.FIRST_SENTENCE) + clip.silence(1.0)
LENGTH = len(SPEECH) / 2 / clip.RATE
ASKED = {"interim_results": "true", "smart_format": "true", "vad_events": "true"}
AT_ONCE = 4  # connections of one process
OVERLAP = 0.2  # seconds by which a word may begin before the end of the previous one


@dataclass(frozen=True)
class Job:
    """The job of the connections of one process."""

    url: str = ""
    key: str = "none"
    audio: str = ""  # a file
    second: int = 32000  # bytes
    asked: dict[str, str] = field(default_factory=dict)
    is_sync: bool = False
    pace: float = 1.0  # as a multiple of real time
    pause: float = 0.0  # seconds, after the Finalize in the middle
    connections: int = 1
    at_once: int = 2


SAMPLES = {"encoding": "linear16", "sample_rate": "16000"}
MU_LAW = Form("", "mulaw", "pcm_mulaw", 8000)
KINDS: dict[str, tuple[Form | None, dict[str, Any]]] = {
    "samples": (None, {"asked": SAMPLES | ASKED, "pause": 0.5}),
    "sync": (None, {"asked": SAMPLES | ASKED, "is_sync": True}),
    "mu-law": (MU_LAW, {"asked": {"encoding": "mulaw", "sample_rate": "8000"} | ASKED, "second": 8000}),
    "ogg-opus": (OGG, {"asked": {"encoding": "ogg-opus"} | ASKED, "second": 4000}),
    "webm": (WEBM, {"asked": ASKED, "second": 4000}),
    "flac": (FORMS[23], {"asked": {"encoding": "flac"} | ASKED, "second": 16000}),
}


@cache
def speech(kind: str, folder: Path) -> str:
    """Return a file with the reading's first sentence, encoded for a kind of client."""
    form, _ = KINDS[kind]
    path = folder / kind
    path.write_bytes(SPEECH if form is None else encoded(SPEECH, form))
    return str(path)


def job_of(kind: str, folder: Path, **given: Any) -> Job:
    return Job(audio=speech(kind, folder), **{**KINDS[kind][1], **given})


def run(job: Job, packages: Path | None = None) -> list[dict[str, Any]]:
    """Run a process of clients; return what each connection received."""
    return packaged.run(CLIENT, asdict(job), packages)


def faults(seen: dict[str, Any]) -> list[str]:
    """Return what is wrong in what a connection received; empty if nothing is."""
    if seen["raised"] is not None:
        return [f"raised {seen['raised']}"]
    messages = seen["messages"]
    kinds = [message["type"] for message in messages]
    results = [message for message in messages if message["type"] == "Results"]
    finals = [message for message in results if message["is_final"]]
    alternatives = [message["channel"]["alternatives"][0] for message in finals]
    transcript = " ".join(alternative["transcript"] for alternative in alternatives)
    duration = messages[-1].get("duration", 0.0) if messages else 0.0
    checks = {
        "no result came before the last audio": seen["live"] > 0,
        f"messages {set(kinds)}": set(kinds) <= {"Results", "SpeechStarted", "Metadata"},
        f"{share(transcript):.0%} of the words: {transcript}": share(transcript) >= 0.75,  # Finalize may cut a word
        "two Finalize are not answered": sum(bool(message["from_finalize"]) for message in results) == 2,
        "no SpeechStarted": "SpeechStarted" in kinds,
        "Metadata is not the last message": kinds[-1:] == ["Metadata"] and kinds.count("Metadata") == 1,
        f"{duration} s of {LENGTH}": abs(duration - LENGTH) < 0.3,
        "a transcript is not its words": all(
            one["transcript"] == " ".join(word["punctuated_word"] for word in one["words"]) for one in alternatives
        ),
        "times do not run on": times_run_on([word for one in alternatives for word in one["words"]]),
    }
    return [fault for fault, is_fine in checks.items() if not is_fine]


def share(transcript: str) -> float:
    """Return the share of the sentence's words that are in a transcript."""
    truth, words = ({word.strip(".,") for word in text.lower().split()} for text in (clip.READ[0], transcript))
    return len(truth & words) / len(truth)


def times_run_on(words: list[dict[str, Any]]) -> bool:
    ends = 0.0
    for word in words:
        if not (ends - OVERLAP <= word["start"] <= word["end"] <= LENGTH and 0 <= word["confidence"] <= 1):
            return False
        ends = word["end"]
    return True


def connect(share: packaged.Share) -> list[tuple[dict[str, Any], list[str]]]:
    job = job_of(share.kind, share.folder, url=share.url, connections=share.connections, at_once=AT_ONCE)
    return [(seen, faults(seen)) for seen in run(job, share.packages)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.compat.deepgram_live", description=__doc__.partition("\n")[0]
    )
    packaged.run_shares(parser, KINDS, OLDER.values(), connect)


if __name__ == "__main__":
    main()
