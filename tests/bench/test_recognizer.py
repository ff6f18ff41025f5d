"""The embedded recognizer in use: how many words it gets right, how soon it answers, and under what load.

The bounds are generous. The figures are in docs/recognizer.md, measured by `python -m tests.bench.accuracy`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.bench.accuracy import errors, transcribe, transcribe_live
from tests.bench.live import crowd, recognizer, sentences, speak
from tests.bench.noise import alone
from tests.bench.voices import Missing, Speech, in_the_wheel, recorded, shipped
from tests.helpers.processes import children
from tests.helpers.sounds import sounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[str, int]]:
    with recognizer("--threads", "2", "--streams", "16") as found:
        yield found


def found(speeches: Callable[[], list[Speech]]) -> list[Speech]:
    try:
        return speeches()
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.mark.shared_server
@pytest.mark.parametrize(("speeches", "most"), [(recorded, 0.08), (in_the_wheel, 0.12), (shipped, 0.08)])
async def test_few_words_of_clean_speech_are_wrong(
    running: tuple[str, int], speeches: Callable[[], list[Speech]], most: float
) -> None:
    transcripts = [(speech.words, await transcribe(running[0], speech)) for speech in found(speeches)]
    assert errors(transcripts)[0] <= most


@pytest.mark.shared_server
async def test_the_unmodified_sdk_transcribes_them_in_real_time(running: tuple[str, int]) -> None:
    speeches = found(recorded)
    texts = await asyncio.gather(*(asyncio.to_thread(transcribe_live, running[0], speech) for speech in speeches))
    rate, words = errors([(speech.words, text) for speech, text in zip(speeches, texts, strict=True)])
    assert words == 53
    assert rate <= 0.08


@pytest.mark.shared_server
async def test_captions_come_soon_after_the_speech(running: tuple[str, int]) -> None:
    delays = await speak(running[0], sentences()[2:])
    assert len(delays.finals) == 3, "each sentence has its final"
    assert sorted(delays.partials)[len(delays.partials) // 2] <= 3.0
    assert sorted(delays.finals)[1] <= 3.0
    assert delays.close <= 5.0


@pytest.mark.shared_server
async def test_sixteen_live_streams_are_all_answered_by_one_process_of_350_mb(running: tuple[str, int]) -> None:
    url, pid = running
    figures = await crowd(url, pid, 16, 12.0)
    assert figures.unanswered == 0
    assert figures.memory <= 350
    assert children(pid) == []


@pytest.mark.shared_server
@pytest.mark.parametrize("sound", ["silence", "white noise", "an organ"])
async def test_sound_without_speech_ends_soon_and_has_no_words(running: tuple[str, int], sound: str) -> None:
    words, close = await alone(running[0], sounds(5.0)[sound])
    assert words == 0
    assert close <= 5.0
