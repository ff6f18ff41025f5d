"""The search for the most streams that a service carries: it tries more and more until they are too many. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speechbridge.cli.exits import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from speechbridge.testing.load import Reading

BEGIN = 25  # streams
CLOSE = 1.1
TRIES = 2  # one failed try may be due to a busy moment of the machine


def climb(
    measure: Callable[[int], Reading], most: int, bound: float, close: float = CLOSE
) -> tuple[int, dict[int, Reading]]:
    """Measure one stream, then BEGIN, then twice as many each time until they are too many; then narrow the limit down.

    A number of streams is carried if nothing is lost and 99 of 100 answers arrive within `bound` ms. Returns the most
    streams that are carried, at most `most`, and all readings. The search ends when the ratio of too many streams to
    carried streams is at most `close`. Raises Failed if not even one is carried.
    """
    readings: dict[int, Reading] = {}

    def carries(streams: int) -> bool:
        for _ in range(TRIES):
            readings[streams] = found = measure(streams)
            if found.lost == 0 and found.p99 < bound:
                return True
        return False

    if not carries(1):
        raise Failed("this machine is too busy to measure: not even one stream was answered in time")
    carried, too_many, streams = 1, 0, min(BEGIN, most)
    while not too_many and carried < most:
        if carries(streams):
            carried, streams = streams, min(2 * streams, most)
        else:
            too_many = streams
    while too_many > close * carried and too_many - carried > 1:
        streams = round((carried * too_many) ** 0.5)
        if carries(streams):
            carried = streams
        else:
            too_many = streams
    return carried, dict(sorted(readings.items()))
