"""Finds where a client's WebSocket frames begin and end, from their headers only, without parsing payloads. Pure.

RFC 6455, section 5.2: two bytes, a longer length in 2 or 8 more, a mask in 4 more, and then the payload.
"""

from __future__ import annotations

CONTINUATION = 0x0  # opcode of a further fragment of a message
CLOSE = 0x8  # opcode of a close frame; this one and higher ones are control frames
LONGEST_HEADER = 14


class FrameWalk:
    """Follows a stream of bytes from frame to frame, however it is cut into pieces.

    After each `step`, `began` tells whether the step completed a frame's header. If so, `opcode`, `length` and
    `is_idle` describe that frame: control frames and empty frames are idle. `payload` is the number of bytes of payload
    in the step.
    """

    __slots__ = ("_header", "_left", "began", "is_idle", "length", "opcode", "payload")

    def __init__(self) -> None:
        self.began = self.is_idle = False
        self.opcode = self.length = self.payload = 0
        self._header = b""  # the beginning of a header that is not complete yet
        self._left = 0  # bytes of the current frame's payload that are still to come

    def step(self, data: bytes, begin: int) -> int:
        """Follow `data` from `begin` to the end of the next frame, or to the end of `data`; return that position.

        It runs for each frame of each client, so it avoids function calls.
        """
        left = self._left
        self.began = left == 0
        if left == 0:
            known, header = self._header, data[begin : begin + LONGEST_HEADER]
            if known:
                header = known + header[: LONGEST_HEADER - len(known)]
            here = len(header)
            masked_length = header[1] if here > 1 else 0
            left = masked_length & 0x7F
            size = 6 if masked_length & 0x80 else 2
            if left == 126:
                left = header[2] << 8 | header[3] if here > 3 else 0
                size += 2
            elif left == 127:
                left = int.from_bytes(header[2:10], "big")
                size += 8
            if here < size:
                self.began, self._header, self.payload = False, header, 0
                return len(data)
            begin += size - len(known)
            self._header = b""
            self.length = left
            self.opcode = opcode = header[0] & 0x0F
            self.is_idle = left == 0 or opcode >= CLOSE
        passed = len(data) - begin
        passed = min(passed, left)
        self.payload = passed
        self._left = left - passed
        return begin + passed
