"""The first engine dies and heals under running streams: what the command measures, in little."""

from __future__ import annotations

import argparse

from tests.chaos import fallback


async def test_no_word_is_lost_or_doubled_when_the_first_engine_dies_and_heals() -> None:
    options = argparse.Namespace(streams=3, minutes=0.8, pace=4.0, times=4)
    result, (first, second), left = await fallback.run(options)
    assert (result.trouble, left) == ([], "")
    assert result.count(lambda heard: heard.untrue) == 0
    assert result.breaks["death"] > 0
    assert first.calls > 3
    assert second.calls >= 3
