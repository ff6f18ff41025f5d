"""Deepgram's Python SDK, unmodified, as a process of its own: `python -m tests.compat.deepgram_sdk JOB`.

The job is JSON: `url`, the `parameters` of `connect`, a file of `audio`, and `steps`: a number sends so many bytes, at
the pace of speech if `paced`; "finalize", "keep_alive", "close_stream" and "sleep" do what they say. It is done `runs`
times, one after the other. What came each time is printed as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from deepgram import DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from websockets.exceptions import InvalidStatus

RATE = 32_000  # bytes a second


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job; return the messages, the errors, and how many messages had come when the last audio was sent."""
    url = job["url"]
    there = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)
    client = DeepgramClient(api_key=job.get("key", "any"), environment=there)
    audio = Path(job["audio"]).read_bytes() if "audio" in job else b""
    told: list[dict[str, Any]] = []
    errors: list[str] = []
    before_the_last = 0
    try:
        with client.listen.v1.connect(model="nova-3", **job["parameters"]) as connection:
            connection.on(EventType.MESSAGE, lambda message: told.append(json.loads(message.json())))
            connection.on(EventType.ERROR, lambda error: errors.append(repr(error)))
            listening = threading.Thread(target=connection.start_listening)
            listening.start()
            sent = 0
            for step in job["steps"]:
                if isinstance(step, int):
                    for start in range(sent, sent + step, 3200):
                        connection.send_media(audio[start : min(start + 3200, sent + step)])
                        time.sleep(3200 / RATE if job.get("paced") else 0)
                    sent += step
                    before_the_last = len(told)
                elif step == "sleep":
                    time.sleep(1.5)
                else:
                    getattr(connection, f"send_{step}")()
            listening.join(30)
    except (ApiError, InvalidStatus) as error:
        errors.append(f"{type(error).__name__}: {error}")
    return {"told": told, "errors": errors, "before_the_last": before_the_last}


def main() -> None:
    job = json.loads(sys.argv[1])
    print(json.dumps([run(job) for _ in range(job.get("runs", 1))]))


if __name__ == "__main__":
    main()
