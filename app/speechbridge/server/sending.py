"""Audio on its way into a bridge: long messages are divided, and short ones may be joined.

To hand audio to a thread and to wake it costs as much CPU as several short messages. So where audio may wait a little,
it is collected here first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncbridge import Bridge

# Bytes: one second of 16 kHz mono. The bridge queues at most 32 chunks. Limiting the size of each limits the queue to a
# MiB, however large the client's messages are.
CHUNK = 2**15


class Sender:
    """The only sender of a bridge. One task calls `send`. For the event loop only.

    Audio is held back only while the bridge has room for it. Nobody else takes that room, so it can be sent without
    waiting when its time is up, or when the input ends.
    """

    def __init__(self, bridge: Bridge[bytes, Any]) -> None:
        self._bridge = bridge
        self._held = bytearray()  # at most CHUNK
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, audio: bytes, hold: float = 0.0) -> None:
        """Send audio. With `hold`, it may be held back, for that many seconds at most, to be joined by more.

        Raises Closed or Broken once the bridge takes no more. Cancellation: some of it may have been sent.
        """
        held = self._held
        if hold and len(held) + len(audio) <= CHUNK and self._bridge.has_room:
            held += audio
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(hold, self._send_held)
            return
        if held:
            audio = self._taken() + audio
        for start in range(0, len(audio), CHUNK):  # an empty message makes no chunk
            await self._bridge.send(audio[start : start + CHUNK])

    def end(self) -> None:
        """End the bridge's input, after all audio. Idempotent, never waits.

        If the bridge has ended and takes no more audio, its input is left open: whoever reads its responses gets Early.
        """
        if self._send_held():
            self._bridge.end()

    def close(self) -> None:
        """Drop audio that is held back."""
        self._taken()

    def _send_held(self) -> bool:
        """Send what is held back; return whether it was taken: it is, unless the bridge has ended."""
        audio = self._taken()
        return not audio or self._bridge.send_nowait(audio)

    def _taken(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        audio = bytes(self._held)
        self._held.clear()
        return audio
