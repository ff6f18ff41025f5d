"""The walk from frame to frame finds what a parser finds, wherever the bytes are cut."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from speechbridge.server.frames import CLOSE, FrameWalk

FRAMES = st.builds(
    Frame,
    st.sampled_from(list(Opcode)),
    st.integers(0, 70_000).flatmap(lambda size: st.just(bytes(min(size, 125) if size % 3 else size))),
    st.booleans(),
)


def wire(frame: Frame) -> bytes:
    """Write a frame as a client does, masked."""
    header = bytes([frame.fin << 7 | frame.opcode])
    size = len(frame.data)
    if size < 126:
        header += bytes([0x80 | size])
    else:
        header += struct.pack("!BH", 0xFE, size) if size < 2**16 else struct.pack("!BQ", 0xFF, size)
    return header + bytes(4) + bytes(frame.data)


def walked(pieces: list[bytes]) -> tuple[list[tuple[int, int]], int]:
    """Return the opcode and the payload's size of each frame, and how many steps it took."""
    walk, steps = FrameWalk(), 0
    found: list[tuple[int, int]] = []
    for piece in pieces:
        end = 0
        while end < len(piece):
            end = walk.step(piece, end)
            steps += 1
            if walk.began:
                found.append((walk.opcode, 0))
                assert walk.is_idle == (walk._left + walk.payload == 0 or walk.opcode >= CLOSE)
            if walk.payload:
                found[-1] = (found[-1][0], found[-1][1] + walk.payload)
    return found, steps


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 3000), max_size=8))
def test_frames_are_found_wherever_the_bytes_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(wire, frames))
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    found, _ = walked(pieces)
    assert found == [(frame.opcode, len(frame.data)) for frame in frames]


@given(st.lists(FRAMES, min_size=1, max_size=6))
def test_a_step_ends_where_a_frame_ends(frames: list[Frame]) -> None:
    _, steps = walked([b"".join(map(wire, frames))])
    assert steps == len(frames)


@given(st.lists(st.integers(0, 255), max_size=300).map(bytes))
def test_any_bytes_are_walked_to_their_end(data: bytes) -> None:
    """What is not a frame is for the parser to refuse."""
    walked([data[:7], data[7:]])


def test_what_a_frame_is_is_told_with_its_header() -> None:
    walk = FrameWalk()
    ping = wire(Frame(Opcode.PING, b"x"))
    assert walk.step(ping[:3], 0) == 3
    assert not walk.began
    assert walk.step(ping[3:], 0) == len(ping) - 3
    assert (walk.began, walk.opcode, walk.is_idle) == (True, Opcode.PING, True)
