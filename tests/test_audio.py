"""The converter: 16 kHz mono out of anything, whatever the pieces."""

from __future__ import annotations

import itertools
import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.audio import Converter


def tone(rate: int, seconds: float, *amplitudes: int, hertz: int = 440) -> bytes:
    """One sine for each channel."""
    frames = (math.sin(2 * math.pi * hertz * n / rate) for n in range(int(rate * seconds)))
    return array("h", (round(amplitude * value) for value in frames for amplitude in amplitudes)).tobytes()


def convert(pcm: bytes, rate: int, channels: int, cuts: list[int] | None = None) -> bytes:
    edges = [0, *sorted(cut % (len(pcm) + 1) for cut in cuts or []), len(pcm)]
    converter = Converter(rate, channels)
    pieces = [converter.feed(pcm[start:end]) for start, end in itertools.pairwise(edges)]
    return b"".join([*pieces, converter.finish()])


cuts = st.lists(st.integers(0, 10_000))


@given(st.binary(), cuts)
def test_16_khz_mono_comes_out_as_it_came_in(pcm: bytes, cuts: list[int]) -> None:
    assert convert(pcm, 16000, 1, cuts) == pcm[: len(pcm) // 2 * 2]


@given(st.sampled_from([8000, 16000, 22050, 44100, 48000]), st.integers(1, 10), st.binary(max_size=4000), cuts)
def test_how_the_audio_is_cut_makes_no_difference(rate: int, channels: int, pcm: bytes, cuts: list[int]) -> None:
    assert convert(pcm, rate, channels, cuts) == convert(pcm, rate, channels)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_tone_keeps_its_pitch_its_length_and_its_loudness(rate: int, channels: int) -> None:
    samples = array("h", convert(tone(rate, 1.0, *[10000] * channels), rate, channels))
    rising = sum(before < 0 <= after for before, after in itertools.pairwise(samples))
    assert abs(len(samples) - 16000) <= 2
    assert abs(rising - 440) <= 1
    assert 9800 < max(samples[1000:-1000]) < 10200


def test_channels_are_averaged() -> None:
    assert set(array("h", convert(tone(16000, 0.1, 9000, -9000), 16000, 2))) == {0}
    assert max(array("h", convert(tone(16000, 0.1, 9000, 3000), 16000, 2))) == 6000


def test_full_scale_is_clipped_and_never_wraps() -> None:
    """A filter overshoots at the edges of a square wave."""
    square = array("h", ([32767] * 24 + [-32768] * 24) * 1000).tobytes()
    samples = array("h", convert(square, 48000, 1))
    assert max(samples) == 32767
    assert min(samples) == -32768
    assert all(abs(after - before) < 65000 for before, after in itertools.pairwise(samples))


def test_nothing_becomes_nothing() -> None:
    assert convert(b"", 44100, 2) == b""
    assert convert(b"\x01\x02\x03", 44100, 2) == b""
