"""The embedded recognizer is killed in the middle of real speech: it is restarted, and all transcripts are complete."""

from __future__ import annotations

import asyncio
import os
import signal
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from speechbridge.audio import RATE
from speechbridge.protocol.messages import EOS, Final, parse_message
from tests.helpers.clip import TWO_VOICES, pcm
from tests.helpers.processes import children, runs
from tests.helpers.service import STREAM, service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATIENCE = 60.0  # seconds, for processes on a busy machine


async def transcript(url: str, in_the_middle: Callable[[], Awaitable[object]]) -> str:
    """Stream the recording, and await `in_the_middle` after its first half; return the transcript."""
    audio = pcm(TWO_VOICES)
    pieces = [audio[start : start + RATE // 5] for start in range(0, len(audio), RATE // 5)]  # 100 ms
    finals: list[Final] = []
    spoken = asyncio.Event()
    async with connect(url + STREAM, proxy=None, compression=None) as socket:

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
        await in_the_middle()
        for piece in pieces[len(pieces) // 2 :]:
            await socket.send(piece)
        await socket.send(EOS)
        await reading
        assert socket.close_code == 1000
    assert [final.ts for final in finals] == sorted(final.ts for final in finals)
    return " ".join(word.value.lower() for final in finals for word in final.words)


async def killed_under(streams: int) -> tuple[str, list[str]]:
    """Return the transcript of an undisturbed stream, and those of so many streams whose recognizer is killed."""
    async with service(None, recognizer_threads=2, answer_seconds=PATIENCE) as server:
        whole = await transcript(server.url, asyncio.Barrier(1).wait)
        barrier = asyncio.Barrier(streams)

        async def kill() -> None:
            if await barrier.wait() == 0:  # one of them does it, once all are in the middle
                (recognizer,) = [child for child in children(os.getpid()) if runs(child, "speechbridge.recognizer")]
                os.kill(recognizer, signal.SIGKILL)

        return whole, await asyncio.gather(*(transcript(server.url, kill) for _ in range(streams)))


@pytest.mark.parametrize("streams", [1, 8])
async def test_the_text_is_whole(streams: int) -> None:
    with anyio.fail_after(PATIENCE):
        whole, broken = await killed_under(streams)
    for text in broken:
        assert whole.split()[-3:] == text.split()[-3:]
        # A decoder that begins in the middle may take one word for another; not one may be missing.
        assert SequenceMatcher(None, whole.split(), text.split()).ratio() > 0.8, (whole, text)
