"""The WAV reader: the samples and nothing else, from pieces of any size."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.close import REASON_BYTES
from speechbridge.protocol.request import BadRequest
from speechbridge.recognizer.wav import HEADER_BYTES, PCM_SUBFORMAT, Format, WavReader
from tests.helpers.wav import chunk, fmt, riff

SAMPLES = bytes(range(200))


def read(file: bytes, size: int | None = None) -> tuple[Format | None, bytes]:
    stretches = read_all(file, size)
    formats = {found for found, _ in stretches}
    assert len(formats) < 2
    return next(iter(formats), None), b"".join(samples for _, samples in stretches)


def read_all(file: bytes, size: int | None = None) -> list[tuple[Format, bytes]]:
    """Return all stretches of samples. Those of one format that follow each other are joined."""
    reader = WavReader()
    size = size or len(file) or 1
    found = [part for start in range(0, len(file), size) for part in reader.feed(file[start : start + size])]
    joined: list[tuple[Format, bytes]] = []
    for kind, samples in [*found, *reader.finish()]:
        before = joined.pop()[1] if joined and joined[-1][0] == kind else b""
        joined.append((kind, before + samples))
    return joined


def test_what_python_writes_is_read() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((2, 2, 44100, 0, "NONE", ""))
        writer.writeframes(SAMPLES)
    assert read(file.getvalue()) == (Format(44100, 2), SAMPLES)


chunks = st.lists(st.builds(chunk, st.sampled_from([b"LIST", b"bext", b"JUNK"]), st.binary(max_size=50)), max_size=3)


@given(chunks, chunks, chunks, st.integers(1, 60))
def test_other_chunks_anywhere_and_pieces_of_any_size(
    before: list[bytes], between: list[bytes], after: list[bytes], size: int
) -> None:
    file = riff(*before, fmt(), *between, chunk(b"data", SAMPLES), *after)
    assert read(file, size) == (Format(16000, 1), SAMPLES)


def test_the_extensible_format_is_read() -> None:
    more = struct.pack("<HHI", 22, 16, 3) + PCM_SUBFORMAT
    assert read(riff(fmt(0xFFFE, 2, more=more), chunk(b"data", SAMPLES))) == (Format(16000, 2), SAMPLES)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_size_that_was_not_known_means_until_the_end(size: int) -> None:
    assert read(riff(fmt()) + chunk(b"data", SAMPLES, size), 7) == (Format(16000, 1), SAMPLES)


def test_a_file_cut_short_gives_the_samples_that_it_has() -> None:
    assert read(riff(fmt(), chunk(b"data", SAMPLES, 10_000)))[1] == SAMPLES


def test_nothing_at_all_is_no_error() -> None:
    assert read(b"") == (None, b"")


# ---- several files, and sizes that are wrong -------------------------------------------------------------------------

files = st.tuples(
    st.sampled_from([(16000, 1), (16000, 2), (48000, 1)]),
    st.binary(min_size=4, max_size=60),
    st.sampled_from(["right", "unknown", "too large"]),
    st.booleans(),
)


@given(st.lists(files, min_size=1, max_size=4), st.integers(1, 90))
def test_files_that_follow_each_other_are_all_read_whatever_their_formats_and_sizes(
    made: list[tuple[tuple[int, int], bytes, str, bool]], size: int
) -> None:
    content, expected = b"", list[tuple[Format, bytes]]()
    for (rate, channels), audio, told, is_followed in made:
        samples = audio[: len(audio) - len(audio) % (2 * channels)].replace(b"R", b"r")
        shown = {"right": len(samples), "unknown": 0xFFFFFFFF, "too large": len(samples) + 999}[told]
        more = chunk(b"LIST", b"abcd") if is_followed and told == "right" else b""
        content += riff(fmt(1, channels, rate), chunk(b"data", samples, shown), more)
        before = expected.pop()[1] if expected and expected[-1][0] == Format(rate, channels) else b""
        expected.append((Format(rate, channels), before + samples))
    assert read_all(content, size) == expected


@pytest.mark.parametrize("size", [None, 1, 7])
def test_samples_beyond_the_size_that_was_told_are_read(size: int | None) -> None:
    """The size is that of the first message of a recording, or was never updated."""
    loud = bytes(range(200, 256)) * 3
    for told in (2, 100):
        assert read(riff(fmt(), chunk(b"data", SAMPLES[:told])) + loud, size) == (
            Format(16000, 1),
            SAMPLES[:told] + loud,
        )


def test_a_frame_that_is_cut_by_the_next_file_does_not_shift_its_samples() -> None:
    one = riff(fmt(), chunk(b"data", SAMPLES, 0xFFFFFFFF)) + b"x"
    assert read(one + one, 5) == (Format(16000, 1), SAMPLES + SAMPLES)


def test_what_looks_like_the_next_file_and_is_none_are_samples() -> None:
    tricky = b"RIFFRIFRRIFF....WAVEfmtRIFFabRI"
    for size in (1, 3, 50):
        assert read(riff(fmt()) + chunk(b"data", tricky + b"\0", 0xFFFFFFFF), size)[1] == tricky + b"\0"


def test_a_second_file_that_cannot_be_read_is_refused_not_dropped() -> None:
    with pytest.raises(BadRequest, match="24 bits"):
        read(riff(fmt(), chunk(b"data", SAMPLES)) + riff(fmt(bits=24), chunk(b"data", SAMPLES)))


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"RIFF", "ends before its samples"),
        (b"this is a letter", "not a WAV file"),
        (b"fLaC\0\0\0\x22\x10\0\x10\0", "not a WAV file"),
        (riff(chunk(b"data", SAMPLES)), "has no format before its samples"),
        (riff(fmt()), "ends before its samples"),
        (riff(chunk(b"fmt ", b"\1\0")), "format is truncated"),
        (riff(fmt(tag=3, bits=32)), "0x0003 with 32 bits"),
        (riff(fmt(bits=24)), "0x0001 with 24 bits"),
        (riff(fmt(0xFFFE, more=struct.pack("<HHI", 22, 16, 3) + b"\3" + PCM_SUBFORMAT[1:])), "0xfffe"),
        (riff(fmt(rate=4000)), "send 8000 to"),
        (riff(fmt(channels=0)), "1 to 10 channels"),
        (riff(chunk(b"JUNK", b"", HEADER_BYTES)), "no samples in its first"),
    ],
)
def test_what_is_not_such_a_file_is_refused_with_the_cure(file: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as refused:
        read(file)
    assert "send" in str(refused.value)
    assert len(str(refused.value)) <= REASON_BYTES


@given(st.binary(max_size=100), st.integers(1, 20))
def test_whatever_comes_is_read_or_refused(file: bytes, size: int) -> None:
    try:
        read(riff(fmt())[:20] + file, size)
    except BadRequest as error:
        assert "send" in str(error)  # noqa: PT017 # some files are fine, so pytest.raises cannot say it
