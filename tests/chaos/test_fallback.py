"""The first engine's service stops and returns while streams run: a short run of `python -m tests.chaos.fallback`."""

from __future__ import annotations

import argparse

from speechbridge.audio import RATE
from speechbridge.protocol.messages import Element, Final
from tests.chaos import fallback
from tests.helpers import spoken
from tests.helpers.breaking_upstream import Stream
from tests.helpers.crowd import Received


async def test_no_word_is_lost_or_doubled_when_the_first_engine_dies_and_heals() -> None:
    options = argparse.Namespace(streams=3, minutes=0.8, pace=4.0, times=4)
    result, (first, second), left = await fallback.run(options)
    assert (result.trouble, left) == ([], "")
    assert result.count(lambda received: received.untrue + received.cut) == 0
    assert result.breaks["death"] > 0
    assert first.calls > 3
    assert second.calls >= 3


def test_a_cut_word_counts_if_a_client_hears_it_of_the_connection_that_cut_it() -> None:
    """A server that dies may send a final with half a word, which no client receives: that does not count."""
    stream, received = Stream(spoken.UTTERANCE), Received()
    stream.cut_by.add((0, 1))
    start, stop = (place / RATE for place in spoken.word(0))
    for connection, cut in ((2, 0), (1, 1)):
        received.add(Final(start, stop, (Element(f"0@{connection}", "text", start, stop),)), stream)
        assert received.cut == cut
