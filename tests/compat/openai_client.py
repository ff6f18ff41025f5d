"""A client of OpenAI's realtime transcription, with whatever version of the `openai` package is installed.

It imports nothing of ours: an older version has its own dependencies, in a folder of its own. It takes a job as JSON on
its command line, and prints what it received as JSON, one line for each connection.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import openai

PIECE = 0.1  # seconds
TURNS = 2  # of a connection on which the client commits
SECOND = {"audio/pcm": 48000, "audio/pcmu": 8000, "audio/pcma": 8000}  # bytes
BETA_NAMES = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
LOGPROBS = "item.input_audio_transcription.logprobs"


async def update(connection: Any, job: dict[str, Any]) -> None:
    """Update the session for the job, in its dialect."""
    turns = {"type": "server_vad"} if job["vad"] else None
    transcription = {"model": "gpt-4o-transcribe", "language": "en"}
    if job["beta"]:
        session: dict[str, Any] = {
            "input_audio_format": BETA_NAMES[job["format"]],
            "input_audio_transcription": transcription,
            "turn_detection": turns,
            "include": [LOGPROBS],
        }
        await connection.transcription_session.update(session=session)
        return
    form = {"type": job["format"]} | ({"rate": 24000} if job["format"] == "audio/pcm" else {})
    audio = {"format": form, "transcription": transcription, "turn_detection": turns}
    session = {"type": "transcription", "audio": {"input": audio}, "include": [LOGPROBS]}
    await connection.session.update(session=session)


async def speak(connection: Any, job: dict[str, Any], audio: bytes, seen: dict[str, Any]) -> None:
    """Send the audio at a pace, and commit at the end of each turn; last, send an event of an unknown type."""
    second = SECOND[job["format"]]
    turns = 1 if job["vad"] else TURNS
    length = len(audio) // turns // second * second
    for turn in range(turns):
        part = audio[turn * length :] if turn == turns - 1 else audio[turn * length : (turn + 1) * length]
        for begin in range(0, len(part), int(second * PIECE)):
            if job["early"] and begin == 10 * int(second * PIECE):
                await update(connection, job)
            piece = part[begin : begin + int(second * PIECE)]
            await connection.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
            await asyncio.sleep(PIECE / job["pace"])
        seen["live"] = seen["live"] or len(seen["deltas"])
        await connection.input_audio_buffer.commit()
    await connection.send({"type": "nobody.understands", "event_id": "the_last"})


async def listen(connection: Any, seen: dict[str, Any]) -> None:
    """Record events, up to the answer to the last one."""
    async for event in connection:
        kind = event.type
        seen["kinds"].append(kind)
        if kind == "input_audio_buffer.committed":
            seen["committed"].append(event.item_id)
        elif kind.endswith("transcription.delta"):
            seen["deltas"].append([event.item_id, event.delta])
        elif kind.endswith("transcription.completed"):
            tokens = [[one.token, one.logprob, bytes(one.bytes).decode()] for one in event.logprobs or []]
            seen["completed"].append([event.item_id, event.transcript, tokens])
        elif kind == "error":
            error = event.error
            seen["errors"].append([error.type, error.code, error.message, error.event_id])
            if error.event_id == "the_last":
                return


async def one(job: dict[str, Any], audio: bytes) -> dict[str, Any]:
    """Run one connection; return what it received."""
    seen: dict[str, Any] = {"version": openai.__version__, "live": 0, "raised": None}
    seen |= {name: [] for name in ("kinds", "committed", "deltas", "completed", "errors")}
    try:
        async with openai.AsyncOpenAI(
            api_key=job["key"], base_url=job["url"], websocket_base_url=job["url"].replace("http://", "ws://")
        ) as client:
            realtime = client.beta.realtime if job["beta"] else client.realtime
            async with realtime.connect(
                model="gpt-4o-transcribe", extra_query={"intent": "transcription"}
            ) as connection:
                listening = asyncio.create_task(listen(connection, seen))
                try:
                    if not job["early"]:
                        await update(connection, job)
                    await speak(connection, job, audio, seen)
                    await listening
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
                    if listening.done() and not listening.cancelled() and (error := listening.exception()):
                        raise error
    except Exception as error:  # noqa: BLE001 # the test says which it expects
        close = getattr(error, "rcvd", None)
        seen["raised"] = [type(error).__name__, close and close.code, close and close.reason]
    return seen


async def main() -> None:
    job = json.loads(sys.argv[1])
    audio = Path(job["audio"]).read_bytes()
    places = asyncio.Semaphore(job["at_once"])

    async def placed() -> None:
        async with places:
            print(json.dumps(await one(job, audio)), flush=True)  # a command's output

    await asyncio.gather(*(placed() for _ in range(job["connections"])))


if __name__ == "__main__":
    asyncio.run(main())
