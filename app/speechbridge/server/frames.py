"""Where a client's WebSocket frames begin and end: a walk over their headers, without looking at what they carry. Pure.

RFC 6455, section 5.2: two bytes, a longer length in 2 or 8 more, a mask in 4 more, and then the payload.
"""

from __future__ import annotations

CLOSE = 0x8  # opcode; from here on they are of control frames
LONGEST_HEADER = 14


class FrameWalk:
    """Follows a stream of bytes from frame to frame, however it is cut into pieces.

    After each `step`, `began` tells whether a frame's header was completed in it. If so, `opcode` and `is_empty` are
    those of that frame. `payload` is how many bytes of payload the step passed.
    """

    def __init__(self) -> None:
        self.began = False
        self.opcode = 0
        self.is_empty = False
        self.payload = 0
        self._header = b""  # the beginning of one that is not complete
        self._left = 0  # of the current frame's payload

    @property
    def is_control(self) -> bool:
        return self.opcode >= CLOSE

    def step(self, data: bytes, begin: int) -> int:
        """Follow `data` from `begin` to the end of the next frame, or to the end of `data`; return where that is."""
        self.began = False
        self.payload = 0
        if self._left == 0:
            begin = self._read_header(data, begin)
        passed = min(self._left, len(data) - begin)
        self._left -= passed
        self.payload = passed
        return begin + passed

    def _read_header(self, data: bytes, begin: int) -> int:
        header = self._header + data[begin : begin + LONGEST_HEADER - len(self._header)]
        length = header[1] & 0x7F if len(header) > 1 else 0
        extended = {126: 2, 127: 8}.get(length, 0)
        size = 2 + extended + (4 if len(header) > 1 and header[1] & 0x80 else 0)
        if len(header) < size:
            self._header = header
            return len(data)
        begin += size - len(self._header)
        self._header = b""
        self._left = int.from_bytes(header[2 : 2 + extended], "big") if extended else length
        self.began = True
        self.opcode = header[0] & 0x0F
        self.is_empty = self._left == 0
        return begin
