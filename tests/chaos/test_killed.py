"""The embedded recognizer is killed in the middle of real speech: the text is complete."""

from __future__ import annotations

import asyncio
import os
import signal
from difflib import SequenceMatcher
from pathlib import Path

import anyio
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from speechbridge.audio import RATE
from speechbridge.protocol.messages import EOS, Final, parse_message
from tests.helpers.clip import CLIP
from tests.helpers.service import STREAM, service

PATIENCE = 60.0  # seconds, for processes on a busy machine


def children(process: int) -> list[int]:
    """Return the processes that a process started, and theirs."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    own = [int(child) for task in tasks for child in task.read_text().split()]
    return own + [grandchild for child in own for grandchild in children(child)]


async def heard(kill: str | None) -> str:
    """Return what the service makes of the recording; in its middle one of the recognizer's processes is killed."""
    pcm = soundfile.read(CLIP, dtype="int16")[0].tobytes()
    pieces = [pcm[start : start + RATE // 5] for start in range(0, len(pcm), RATE // 5)]  # 100 ms
    finals: list[Final] = []
    spoken = asyncio.Event()
    async with (
        service(None, recognizer_processes=1, answer_seconds=PATIENCE) as server,
        connect(server.url + STREAM, proxy=None, compression=None) as socket,
    ):

        async def read() -> None:
            try:
                while True:
                    message = parse_message(str(await socket.recv()))
                    finals.extend([message] if isinstance(message, Final) else [])
                    spoken.set()
            except ConnectionClosed:
                return

        reading = asyncio.create_task(read())
        for piece in pieces[: len(pieces) // 2]:
            await socket.send(piece)
        await spoken.wait()
        if kill:
            recognizer, worker = children(os.getpid())
            os.kill(recognizer if kill == "recognizer" else worker, signal.SIGKILL)
        for piece in pieces[len(pieces) // 2 :]:
            await socket.send(piece)
        await socket.send(EOS)
        await reading
        assert socket.close_code == 1000
    assert [final.ts for final in finals] == sorted(final.ts for final in finals)
    return " ".join(word.value.lower() for final in finals for word in final.words)


@pytest.mark.parametrize("killed", ["worker", "recognizer"])
async def test_the_text_is_complete(killed: str) -> None:
    with anyio.fail_after(PATIENCE):
        whole, broken = await heard(None), await heard(killed)
    assert whole.split()[-3:] == broken.split()[-3:]
    # A decoder that begins in the middle may take one word for another; not one may be missing.
    assert SequenceMatcher(None, whole.split(), broken.split()).ratio() > 0.8, (whole, broken)
