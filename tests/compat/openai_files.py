"""Sends whole files with whatever version of the `openai` package is installed. It imports nothing of ours.

It takes a job as JSON on its command line, and prints the answers in all formats as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import openai


def answers(client: openai.OpenAI, audio: Path) -> dict[str, Any]:
    """Return the transcript of a file in each format, and the error for a file without audio."""
    create = client.audio.transcriptions.create
    seen: dict[str, Any] = {"version": openai.__version__}
    seen["json"] = create(file=audio, model="whisper-1").text
    seen["text"] = create(file=audio, model="whisper-1", response_format="text")
    seen["srt"] = create(file=audio, model="whisper-1", response_format="srt")
    seen["vtt"] = create(file=audio, model="whisper-1", response_format="vtt")
    verbose = create(
        file=audio, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    seen["verbose_json"] = verbose.model_dump()
    events = create(file=audio, model="gpt-4o-transcribe", stream=True)
    seen["events"] = [event.model_dump() for event in events]
    try:
        create(file=("a.wav", b"no sound " * 5000), model="whisper-1")
    except openai.BadRequestError as error:
        seen["error"] = [error.status_code, error.type, error.param, error.message]
    return seen


def main() -> None:
    job = json.loads(sys.argv[1])
    with openai.OpenAI(base_url=job["url"], api_key=job["key"], max_retries=0) as client:
        print(json.dumps(answers(client, Path(job["audio"]))))  # a command's output


if __name__ == "__main__":
    main()
