"""A client of Deepgram's live API, with whatever major version of the `deepgram-sdk` package is installed, from 3 on.

It imports nothing of ours: an older version has its own dependencies, in a folder of its own. It takes a job as JSON on
its command line, and prints what it received as JSON, one line for each connection.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deepgram

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

VERSION = version("deepgram-sdk")
MAJOR = int(VERSION.partition(".")[0])
PIECE = 0.1  # seconds
PATIENCE = 60.0  # likewise
TYPES = {"finalize": "Finalize", "keep_alive": "KeepAlive", "close_stream": "CloseStream"}
EVENTS = ("Transcript", "Metadata", "SpeechStarted", "UtteranceEnd", "Error", "Unhandled")  # of versions 3 and 4


def steps(job: dict[str, Any], audio: bytes, seen: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the steps: send audio at a pace, finalize and pause in the middle, finalize at the end, and close."""
    size = int(job["second"] * PIECE)
    pieces = [audio[begin : begin + size] for begin in range(0, len(audio), size)]
    for nth, piece in enumerate(pieces):
        yield "media", piece
        yield "sleep", PIECE / job["pace"]
        if nth == len(pieces) // 2:
            yield "finalize", None
            yield "keep_alive", None
            yield "sleep", job["pause"]
    seen["live"] = sum(message["type"] == "Results" for message in seen["messages"])
    yield "finalize", None
    yield "close_stream", None


def run_steps(job: dict[str, Any], audio: bytes, seen: dict[str, Any], send: Callable[[str, Any], object]) -> None:
    for step, given in steps(job, audio, seen):
        if step == "sleep":
            time.sleep(given)
        else:
            send(step, given)


async def await_steps(
    job: dict[str, Any], audio: bytes, seen: dict[str, Any], send: Callable[[str, Any], Awaitable[object]]
) -> None:
    for step, given in steps(job, audio, seen):
        if step == "sleep":
            await asyncio.sleep(given)
        else:
            await send(step, given)


# ---- versions 3 and 4: callbacks -------------------------------------------------------------------------------------


def old_client(job: dict[str, Any]) -> Any:
    options = deepgram.DeepgramClientOptions(url=job["url"], verbose=logging.CRITICAL)
    return deepgram.DeepgramClient(job["key"], options).listen


def old_send(connection: Any) -> Callable[[str, Any], Any]:
    """Return a function that sends. It sends CloseStream itself: `finish` closes the connection after half a second."""
    sends = {
        "media": connection.send,
        "finalize": lambda _given: connection.finalize(),
        "keep_alive": lambda _given: connection.keep_alive(),
        "close_stream": lambda _given: connection.send(json.dumps({"type": "CloseStream"})),
    }
    return lambda step, given: sends[step](given)


def noted(seen: dict[str, Any], given: tuple[Any, ...]) -> None:
    """Record a message: the SDK passes most as keyword arguments, and its own errors as positional ones."""
    [message] = (one for one in given if hasattr(one, "to_dict"))
    seen["messages"].append(message.to_dict())


def old_sync(job: dict[str, Any], audio: bytes, seen: dict[str, Any]) -> None:
    connection = old_client(job).websocket.v("1")
    closed = threading.Event()
    for name in EVENTS:
        connection.on(
            deepgram.LiveTranscriptionEvents[name], lambda *given, **named: noted(seen, (*given, *named.values()))
        )
    connection.on(deepgram.LiveTranscriptionEvents.Close, lambda *_given, **_named: closed.set())
    if not connection.start({"model": "nova-3", **job["asked"]}):
        raise ConnectionError
    run_steps(job, audio, seen, old_send(connection))
    closed.wait(PATIENCE)
    connection.finish()


async def old_async(job: dict[str, Any], audio: bytes, seen: dict[str, Any]) -> None:
    connection = old_client(job).asyncwebsocket.v("1")
    closed = asyncio.Event()

    async def note(*given: Any, **named: Any) -> None:
        noted(seen, (*given, *named.values()))

    async def note_close(*_given: Any, **_named: Any) -> None:
        closed.set()

    for name in EVENTS:
        connection.on(deepgram.LiveTranscriptionEvents[name], note)
    connection.on(deepgram.LiveTranscriptionEvents.Close, note_close)
    if not await connection.start({"model": "nova-3", **job["asked"]}):
        raise ConnectionError
    await await_steps(job, audio, seen, old_send(connection))
    async with asyncio.timeout(PATIENCE):
        await closed.wait()
    await connection.finish()


# ---- version 5 and later: iteration ----------------------------------------------------------------------------------


def places(job: dict[str, Any]) -> Any:
    from deepgram.environment import DeepgramClientEnvironment  # noqa: PLC0415 # older versions have none

    names = [name for name in inspect.signature(DeepgramClientEnvironment).parameters if name != "self"]
    return DeepgramClientEnvironment(**dict.fromkeys(names, job["url"].replace("http://", "ws://")))


def new_send(connection: Any) -> Callable[[str, Any], Any]:
    def send(step: str, given: Any) -> Any:
        if step == "media":
            return connection.send_media(given)
        if MAJOR == 5:
            from deepgram.extensions.types.sockets import ListenV1ControlMessage  # type: ignore[import-not-found] # noqa: PLC0415 # other versions have none

            return connection.send_control(ListenV1ControlMessage(type=TYPES[step]))
        return getattr(connection, f"send_{step}")()

    return send


def new_sync(job: dict[str, Any], audio: bytes, seen: dict[str, Any]) -> None:
    client = deepgram.DeepgramClient(api_key=job["key"], environment=places(job))
    with client.listen.v1.connect(model="nova-3", **job["asked"]) as connection:
        speaking = threading.Thread(target=run_steps, args=(job, audio, seen, new_send(connection)))
        speaking.start()
        for message in connection:
            seen["messages"].append(json.loads(message.json()))
        speaking.join()


async def new_async(job: dict[str, Any], audio: bytes, seen: dict[str, Any]) -> None:
    client = deepgram.AsyncDeepgramClient(api_key=job["key"], environment=places(job))
    async with client.listen.v1.connect(model="nova-3", **job["asked"]) as connection:
        speaking = asyncio.create_task(await_steps(job, audio, seen, new_send(connection)))
        async for message in connection:
            seen["messages"].append(json.loads(message.json()))
        await speaking


async def one(job: dict[str, Any], audio: bytes) -> dict[str, Any]:
    """Run one connection; return what it received."""
    seen: dict[str, Any] = {"version": VERSION, "live": 0, "raised": None, "messages": []}
    try:
        async with asyncio.timeout(PATIENCE):
            if job["is_sync"]:
                await asyncio.to_thread(old_sync if MAJOR < 5 else new_sync, job, audio, seen)
            else:
                await (old_async if MAJOR < 5 else new_async)(job, audio, seen)
    except Exception as error:  # noqa: BLE001 # the test says which it expects
        answer = getattr(error, "response", error)  # websockets' error, in versions 5 and 6
        seen["raised"] = [type(error).__name__, getattr(answer, "status_code", None)]
    return seen


async def main() -> None:
    job = json.loads(sys.argv[1])
    audio = Path(job["audio"]).read_bytes()
    at_once = asyncio.Semaphore(job["at_once"])

    async def placed() -> None:
        async with at_once:
            print(json.dumps(await one(job, audio)), flush=True)  # a command's output

    await asyncio.gather(*(placed() for _ in range(job["connections"])))


if __name__ == "__main__":
    asyncio.run(main())
