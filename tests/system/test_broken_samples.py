"""Raw audio that is not what it says: noise, other encodings, shifted bytes. It ends soon, beside others."""

from __future__ import annotations

import asyncio
import time
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect

from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import Final, parse_message
from tests.helpers.clip import chunks, pcm, words_right
from tests.helpers.service import STREAM, ending, service

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from speechbridge.server.run import Server

pytestmark = pytest.mark.slow

SPOKEN = np.frombuffer(pcm(), "<i2")
DICE = np.random.default_rng(1)
SOON = 30.0  # seconds on a busy machine; alone they take less than one
SECONDS = (
    20  # of audio: as long as SPEECHBRIDGE_UPSTREAM_SILENCE, after which an upstream without an answer is replaced
)


def mu_law(samples: NDArray[np.int16]) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, 8000, format="RAW", subtype="ULAW")
    return file.getvalue()


BROKEN = {
    "white noise": DICE.integers(-30000, 30000, SECONDS * 16000, dtype="<i2").tobytes(),
    "any bytes": DICE.bytes(SECONDS * 32000),
    "byte-swapped": SPOKEN.byteswap().tobytes(),
    "shifted by a byte": pcm()[1:],
    "mu-law": mu_law(SPOKEN) * 4,
    "8 bits": ((SPOKEN >> 8) + 128).astype(np.uint8).tobytes() * 2,
    "24 bits": np.insert(SPOKEN.view(np.uint8), np.arange(0, 2 * len(SPOKEN), 2), 0).tobytes(),
    "floats": (SPOKEN / 32768).astype("<f4").tobytes(),
    "three times as fast": SPOKEN[::3].tobytes() * 3,
}


async def send(server: Server, pieces: list[bytes]) -> tuple[list[Final], Close]:
    async with connect(server.url + STREAM, compression=None) as socket:
        for piece in pieces:
            await socket.send(piece)
        await socket.send("EOS")
        messages, close = await ending(socket)
    read = [parse_message(str(message)) for message in messages]
    return [message for message in read if isinstance(message, Final)], close


def cut(audio: bytes) -> list[bytes]:
    return [audio[start : start + 3200] for start in range(0, len(audio), 3200)]


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind != "three times as fast"])
async def test_what_is_no_speech_ends_soon_without_a_word_beside_a_speaker(kind: str) -> None:
    async with service(None, recognizer_threads=1) as server:
        begun = time.monotonic()
        *broken, (heard, close) = await asyncio.gather(
            send(server, cut(BROKEN[kind])), send(server, cut(BROKEN[kind])), send(server, chunks())
        )
        assert time.monotonic() - begun < SOON
        totals = server.sessions.statistics().totals
    for finals, ended in broken:
        assert ended == Close(1000, END_OF_INPUT)
        assert [word for final in finals for word in final.words] == []
        assert finals, "it is told that it was heard"
    assert close == Close(1000, END_OF_INPUT)
    assert words_right(list(heard)) > 0.9
    assert totals.reconnects == totals.breaks == 0, "one connection to the recognizer for each"


async def test_speech_at_a_wrong_rate_ends_soon() -> None:
    """It may be taken for words."""
    async with service(None, recognizer_threads=1) as server:
        async with asyncio.timeout(SOON):
            _, close = await send(server, cut(BROKEN["three times as fast"]))
        assert server.sessions.statistics().totals.reconnects == 0
    assert close == Close(1000, END_OF_INPUT)
