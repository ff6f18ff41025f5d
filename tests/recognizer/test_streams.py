"""Real streams on the real models: what is heard, when, and that neighbours do not disturb each other."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soxr  # type: ignore[import-untyped] # ships no stubs

from speechbridge.protocol.messages import Final, Partial
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.conversation import Refused
from speechbridge.recognizer.streams import FULL, Models, Streams
from speechbridge.recognizer.threads import DecodingThreads
from tests.helpers.clip import FIRST_SENTENCE, RATE, READ, SPOKEN, TWO_VOICES, noise, pcm, silence
from tests.helpers.sounds import sounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.slow

RAW = ContentType.raw()
Heard = list[Partial | Final]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


@asynccontextmanager
async def running(models: Models, threads: int = 2, most: int = 16) -> AsyncIterator[Streams]:
    with DecodingThreads(threads) as decoding:
        yield Streams(models, decoding, most)


async def recognise(
    streams: Streams,
    audio: bytes,
    kind: ContentType = RAW,
    *,
    piece: int = 3200,
    pause: float = 0.0,
    **options: bool | float,
) -> Heard:
    """Give a stream all of it at once, or with pauses in which it is looked at; return what it says."""
    stream = streams.open(StreamRequest(kind, options))
    heard: Heard = []

    async def read() -> None:
        while (hypothesis := await stream.next()) is not None:
            heard.append(hypothesis)

    reading = asyncio.create_task(read())
    for start in range(0, len(audio), piece):
        await stream.feed(audio[start : start + piece])
        await asyncio.sleep(pause)
    await stream.finish()
    await reading
    stream.close()
    return heard


def finals(heard: Heard) -> list[Final]:
    return [hypothesis for hypothesis in heard if isinstance(hypothesis, Final)]


def text(heard: Heard) -> str:
    return " ".join(final.text for final in finals(heard))


def check_times(heard: Heard, seconds: float, start: float = 0.0) -> None:
    """Words' times grow and lie within the audio; confidences are probabilities."""
    words = [word for final in finals(heard) for word in final.words]
    assert words
    times = [(word.ts or 0.0, word.end_ts or 0.0) for word in words]
    assert all(ts <= end_ts for ts, end_ts in times)
    assert all(before[1] <= after[0] for before, after in pairwise(times))
    assert start <= times[0][0]
    assert times[-1][1] <= start + seconds
    assert all(0 <= (word.confidence or 0) <= 1 for word in words)


async def test_real_speech_is_written_down(models: Models) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, pcm())
    assert [final.text for final in finals(heard)] == list(READ)
    check_times(heard, len(pcm()) / 2 / RATE)
    words = [word.confidence or 0 for final in finals(heard) for word in final.words]
    assert min(words) < 1, "probabilities, not a constant"


async def test_words_are_found_within_a_tenth_of_a_second_of_the_truth(models: Models) -> None:
    """From the synthesizer that said them (flite -psdur): when each word ends."""
    truth = [0.687, 1.042, 1.158, 1.466, 1.807, 2.222, 2.609, 2.760, 2.941, 3.290, 3.369, 3.463, 3.866, 3.955, 4.014]
    truth += [4.491, 6.004, 6.347, 6.435, 6.829, 7.117, 7.529, 7.616, 7.862, 8.447, 8.801]
    async with running(models) as streams:
        heard = await recognise(streams, pcm(TWO_VOICES))
    assert [final.text for final in finals(heard)] == list(SPOKEN)
    words = [word for final in finals(heard) for word in final.words]
    assert [word.end_ts for word in words] == pytest.approx(truth, abs=0.1)
    starts = [word.ts for word in words]
    assert starts[0] == pytest.approx(0.584, abs=0.1)
    assert starts[16] == pytest.approx(5.636, abs=0.2), "the voice detector hears its first sound late"


@pytest.mark.parametrize("piece", [777 * 2, 3200, 64000])
async def test_how_the_audio_is_cut_makes_no_difference(models: Models, piece: int) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, pcm(TWO_VOICES), piece=piece)
    assert [final.text for final in finals(heard)] == list(SPOKEN)


def telephone(audio: bytes) -> bytes:
    return bytes(np.rint(soxr.resample(np.frombuffer(audio, "<i2").astype(np.float32), RATE, 8000)).astype("<i2"))


def stereo(audio: bytes) -> bytes:
    wide = soxr.resample(np.frombuffer(audio, "<i2").astype(np.float32), RATE, 48000)
    return bytes(np.repeat(np.rint(wide).clip(-32768, 32767).astype("<i2"), 2))


async def test_8_khz_is_heard(models: Models) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, telephone(pcm(TWO_VOICES)), ContentType.raw(8000))
    check_times(heard, len(pcm(TWO_VOICES)) / 2 / RATE)
    said = text(heard).lower()
    right = [
        word for word in ("weather", "very", "nice", "today", "going", "market", "morning", "door") if word in said
    ]
    assert len(right) >= 6


async def test_48_khz_stereo_is_heard_as_well_as_what_it_was_made_of(models: Models) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, stereo(pcm(TWO_VOICES)), ContentType.raw(48000, 2))
    assert [final.text for final in finals(heard)] == list(SPOKEN)
    check_times(heard, len(pcm(TWO_VOICES)) / 2 / RATE)


SENTENCE = pcm(TWO_VOICES)[int(0.58 * RATE) * 2 : int(4.49 * RATE) * 2]  # without the silence around it: 3.9 s


@pytest.mark.parametrize(("times", "longest"), [(3, 15.0), (10, 15.0), (10, 5.0)])
async def test_somebody_who_does_not_pause_is_heard_to_the_end(models: Models, times: int, longest: float) -> None:
    """12 and 40 s without a pause."""
    async with running(models) as streams:
        heard = await recognise(streams, SENTENCE * times, max_segment_duration_seconds=longest)
    check_times(heard, times * len(SENTENCE) / 2 / RATE)
    assert all(final.end_ts - final.ts <= longest for final in finals(heard))
    said = text(heard).lower()
    assert said.count("weather") >= times - 1
    assert said.count("market") >= times - 1
    assert finals(heard)[-1].end_ts == pytest.approx(times * len(SENTENCE) / 2 / RATE, abs=0.3)


@pytest.mark.parametrize("seconds", [0.7, 1.0, 3.33, 5.05])
async def test_the_input_may_end_in_the_middle_of_a_word(models: Models, seconds: float) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, pcm(seconds=seconds))
    check_times(heard, seconds)
    assert isinstance(heard[-1], Final)
    first = text(heard).split()[0]
    assert first.rstrip(",.").lower() in ("and", "in")


async def test_times_begin_at_start_ts(models: Models) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, pcm(seconds=3.0), start_ts=100.0)
        plain = await recognise(streams, pcm(seconds=3.0))
    check_times(heard, 3.0, start=100.0)
    assert finals(heard)[0].ts == pytest.approx(finals(plain)[0].ts + 100.0)


async def test_without_postprocessing_there_are_neither_capitals_nor_punctuation(models: Models) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, pcm(seconds=FIRST_SENTENCE), skip_postprocessing=True)
    assert text(heard) == READ[0].lower().replace(".", "")


async def test_detailed_partials_have_times_within_what_was_heard(models: Models) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, pcm(), detailed_partials=True)
    partials = [hypothesis for hypothesis in heard if isinstance(hypothesis, Partial)]
    for partial in partials:
        times = [time for element in partial.elements for time in (element.ts or 0, element.end_ts or 0)]
        assert times == sorted(times)
        assert times[-1] <= partial.end_ts + 0.01
        assert all(0 < (element.confidence or 0) <= 1 for element in partial.elements)


@pytest.mark.parametrize("sound", sounds(0.1))
async def test_sound_that_is_no_speech_has_no_words(models: Models, sound: str) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, sounds()[sound])
    assert [element for hypothesis in heard for element in hypothesis.elements] == []


@pytest.mark.parametrize("sound", ["a chord that swells", "an organ", "a siren"])
async def test_what_the_voice_detector_takes_for_speech_is_shown_at_no_moment(models: Models, sound: str) -> None:
    async with running(models) as streams:
        heard = await recognise(streams, sounds(6.0)[sound], pause=0.02)
    assert [element for hypothesis in heard for element in hypothesis.elements] == []


async def test_one_too_many_is_refused_and_a_place_that_is_left_is_free(models: Models) -> None:
    async with running(models, most=2) as streams:
        first, second = streams.open(StreamRequest(RAW)), streams.open(StreamRequest(RAW))
        with pytest.raises(Refused) as refused:
            streams.open(StreamRequest(RAW))
        assert refused.value.close == FULL
        first.close()
        first.close()
        third = streams.open(StreamRequest(RAW))
        for stream in (second, third):
            stream.close()


async def test_streams_that_come_together_are_heard_as_if_they_were_alone(models: Models) -> None:
    async with running(models) as streams:
        together = await asyncio.gather(*(recognise(streams, pcm(TWO_VOICES)) for _ in range(6)))
    assert [[final.text for final in finals(heard)] for heard in together] == [list(SPOKEN)] * 6


async def test_nothing_is_left_of_the_last_speaker(models: Models) -> None:
    async with running(models) as streams:
        before = await recognise(streams, pcm(seconds=FIRST_SENTENCE))
        await recognise(streams, noise(2.0, 12000) + pcm(TWO_VOICES))
        after = await recognise(streams, pcm(seconds=FIRST_SENTENCE))
    assert text(after) == text(before)
    times = [[word.ts for word in final.words] for final in finals(before)]
    assert [[word.ts for word in final.words] for final in finals(after)] == times


def bursts() -> Iterator[bytes]:
    for number in range(1, 8):
        yield silence(0.5) + noise(number / 10, 12000) + silence(1.0)


async def test_what_was_shown_of_a_noise_is_taken_back(models: Models) -> None:
    async with running(models) as streams:
        for burst in bursts():
            heard = await recognise(streams, burst)
            assert not heard or isinstance(heard[-1], Final)
