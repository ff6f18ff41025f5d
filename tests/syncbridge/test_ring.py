"""The ring: a stretch of the input, addressed by absolute position."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge import Ring
from syncbridge.ring import BLOCK

PATTERN = bytes(range(251)) * 1000  # 251 is prime: a wrong offset shows


@given(st.lists(st.tuples(st.sampled_from(["append", "release", "read"]), st.integers(0, 40)), max_size=40))
def test_a_ring_holds_a_stretch_of_what_was_appended(steps: list[tuple[str, int]]) -> None:
    ring, everything = Ring(), b""
    for step, number in steps:
        match step:
            case "append":
                chunk = PATTERN[len(everything) : len(everything) + number]
                ring.append(chunk)
                everything += chunk
            case "release":
                ring.release(number)
            case "read" if ring.start < ring.end:
                position = ring.start + number % (ring.end - ring.start)
                read = ring.read(position)
                assert read
                assert everything[position : position + len(read)] == read
    assert ring.end == len(everything)
    assert b"".join(piece for _, piece in ring.pieces()) == everything[ring.start :]
    with pytest.raises(IndexError):
        ring.read(ring.start - 1)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, 3 * BLOCK])
@pytest.mark.parametrize("unit", [1, 4])
def test_it_is_read_and_released_at_any_position_whatever_the_chunks(size: int, unit: int) -> None:
    ring, total = Ring(unit), 10 * BLOCK + 3
    for start in range(0, total, size):
        ring.append(PATTERN[start : min(start + size, total)])
    assert ring.end == total
    for position in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, total - 1):
        assert PATTERN[position:].startswith(ring.read(position))
        [(begin, piece), *_] = ring.pieces(position)
        assert (begin, piece) == (position, ring.read(position))
        ring.release(position)
        assert ring.start == position - position % unit
        assert b"".join(piece for _, piece in ring.pieces()) == PATTERN[ring.start : total]
    ring.release(total + 100)
    assert ring.start == total - total % unit
    with pytest.raises(IndexError, match="is not there yet"):
        ring.read(total)
