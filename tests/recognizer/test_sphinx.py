"""Recognition of one stream: utterances, words, times. What is spoken is in recordings that not everybody has."""

from __future__ import annotations

import random
import wave
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from speechbridge.protocol.messages import Final, Partial
from speechbridge.recognizer import sphinx
from speechbridge.recognizer.requests import Settings

pytestmark = pytest.mark.slow

Decoder = Any  # pocketsphinx ships no types
PLAIN = Settings()

RECORDINGS = Path(__file__).parents[2] / ".." / "shared" / "speech"
SPOKEN = {"goforward": "go forward ten meters", "something": "go somewhere and do something"}

needs_speech = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not beside this checkout")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return sphinx.load()


def recording(name: str) -> bytes:
    with wave.open(str(RECORDINGS / f"{name}.wav")) as file:
        return bytes(file.readframes(file.getnframes()))


def noise(seconds: float, loudness: int) -> bytes:
    dice = random.Random(1)
    return array("h", (dice.randint(-loudness, loudness) for _ in range(int(16000 * seconds)))).tobytes()


def recognise(decoder: Decoder, pcm: bytes, settings: Settings = PLAIN, size: int = 3200) -> list[Partial | Final]:
    recognition = sphinx.Recognition(decoder, settings)
    heard = [h for start in range(0, len(pcm), size) for h in recognition.feed(pcm[start : start + size])]
    heard += recognition.finish()
    recognition.close()
    return heard


def finals(heard: list[Partial | Final]) -> list[Final]:
    return [hypothesis for hypothesis in heard if isinstance(hypothesis, Final)]


def test_silence_says_nothing(decoder: Decoder) -> None:
    assert recognise(decoder, bytes(96000)) == []
    assert recognise(decoder, b"") == []
    assert recognise(decoder, b"\0") == []


def test_partials_are_taken_back_by_a_final(decoder: Decoder) -> None:
    """Bursts of noise may be anything, but what was shown is settled in the end."""
    for burst in range(1, 8):
        heard = recognise(decoder, bytes(16000) + noise(burst / 10, 12000) + bytes(32000))
        assert not heard or isinstance(heard[-1], Final)


def test_a_stream_may_be_left_anywhere(decoder: Decoder) -> None:
    """The decoder is in the middle of an utterance, and is ready for the next stream all the same."""
    for _ in range(2):
        recognition = sphinx.Recognition(decoder, Settings())
        recognition.feed(noise(1.0, 12000))
        assert recognition._utterance
        assert recognition.close() is decoder
        recognition.close()


@needs_speech
@pytest.mark.parametrize("name", SPOKEN)
def test_words_come_with_times_and_confidence(decoder: Decoder, name: str) -> None:
    pcm = recording(name)
    heard = recognise(decoder, pcm)
    (final,) = finals(heard)
    assert final.text == SPOKEN[name]
    assert heard[-1] is final
    words = final.words
    times = [time for word in words for time in (word.ts or 0, word.end_ts or 0)]
    assert times == sorted(times)
    assert (final.ts, final.end_ts) == (times[0], times[-1])
    assert 0.3 < times[0] < times[-1] < len(pcm) / 32000
    assert all(0 < (word.confidence or 0) <= 1 for word in words)
    assert min(word.confidence or 0 for word in words) < 1, "posteriors, not a constant"


@needs_speech
def test_partials_come_while_one_speaks_and_only_when_words_change(decoder: Decoder) -> None:
    recognition = sphinx.Recognition(decoder, Settings())
    pcm = recording("goforward")
    heard = recognition.feed(pcm[: 32000 * 3 // 2])
    assert len(heard) > 3
    assert all(isinstance(hypothesis, Partial) for hypothesis in heard)
    assert all(before.elements != after.elements for before, after in pairwise(heard))
    assert {(e.ts, e.end_ts, e.confidence) for h in heard for e in h.elements} == {(None, None, None)}
    recognition.close()


@needs_speech
def test_detailed_partials_have_times_and_a_growing_stability(decoder: Decoder) -> None:
    heard = recognise(decoder, recording("goforward"), Settings(detailed_partials=True))
    partials = [hypothesis for hypothesis in heard if isinstance(hypothesis, Partial)]
    assert all(e.ts is not None and e.end_ts is not None for p in partials for e in p.elements)
    forward = [e.confidence or 0 for p in partials for e in p.elements if e.value == "forward"]
    assert forward == sorted(forward)
    assert 0.6 < forward[0] < forward[-1] < 1


@needs_speech
def test_how_the_audio_is_cut_makes_no_difference(decoder: Decoder) -> None:
    pcm = recording("goforward")
    assert recognise(decoder, pcm, size=len(pcm)) == recognise(decoder, pcm, size=777)


@needs_speech
def test_nothing_is_left_of_the_last_speaker() -> None:
    """Cepstral mean and noise estimate stay in a decoder until it is told otherwise."""
    decoder = sphinx.load()
    fresh = recognise(decoder, recording("goforward"))
    recognise(decoder, recording("something") + noise(1.0, 9000))
    assert recognise(decoder, recording("goforward")) == fresh


@needs_speech
def test_times_begin_at_start_ts(decoder: Decoder) -> None:
    (plain,) = finals(recognise(decoder, recording("something")))
    (moved,) = finals(recognise(decoder, recording("something"), Settings(start_ts=100.0)))
    assert moved.ts == pytest.approx(plain.ts + 100)
    assert [w.end_ts for w in moved.words] == pytest.approx([(w.end_ts or 0) + 100 for w in plain.words])


@needs_speech
def test_the_tail_is_heard(decoder: Decoder) -> None:
    """The input ends with the last word, and no silence follows."""
    spoken = recording("goforward")[: int(2.12 * 32000)]
    assert finals(recognise(decoder, spoken))[-1].text == SPOKEN["goforward"]


@needs_speech
def test_a_pause_ends_an_utterance(decoder: Decoder) -> None:
    pcm = recording("goforward")
    first, second = finals(recognise(decoder, pcm + recording("something")))
    assert (first.text, second.text) == tuple(SPOKEN.values())
    assert first.end_ts < len(pcm) / 32000 < second.ts


@needs_speech
def test_who_does_not_pause_is_cut_and_loses_no_time(decoder: Decoder) -> None:
    words = recording("something")[int(0.48 * 32000) : int(2.12 * 32000)]
    heard = finals(recognise(decoder, words * 8, Settings(max_segment=5.0)))
    assert len(heard) == 3
    assert all(final.end_ts - final.ts <= 5.1 for final in heard)
    assert all(after.ts - before.end_ts < 0.5 for before, after in pairwise(heard))
    assert heard[-1].end_ts == pytest.approx(8 * len(words) / 32000, abs=0.2)
