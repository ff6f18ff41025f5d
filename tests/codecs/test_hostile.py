"""Streams that are damaged, cut, endless, or made to hurt: refused at once, with bounded memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbridge.codecs import Decoder
from speechbridge.codecs.decoder import STALL_BYTES, STALL_SECONDS
from speechbridge.protocol.request import BadRequest, ContentType
from tests.helpers import clip
from tests.helpers.decoded import chunks, decoded, likeness
from tests.helpers.encoded import FEW, FORMS, OGG, WEBM, Form, encoded, reading

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.slow

CONTAINERS = [form for form in FORMS if ";" not in form.media]
TYPES = ["audio/webm", "audio/ogg", "audio/mp4", "audio/aac", "audio/mpeg", "audio/flac", "audio/wav"]
VORBIS_OGG = FORMS[9]
MOST = 32 * 2**20  # bytes that a decoder may take for anything: the largest packet, a few times


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome(pieces: Iterable[bytes], content_type: ContentType | None = None) -> bytes | None:
    """Return what was heard; None if it was refused. Anything else that is raised fails the test."""
    try:
        return decoded(pieces, content_type)
    except BadRequest:
        return None


def ebml(name: str, payload: bytes, size: int | None = None) -> bytes:
    return bytes.fromhex(name) + ((1 << 56) | (len(payload) if size is None else size)).to_bytes(8, "big") + payload


def box(name: bytes, payload: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(payload) if size is None else size, name) + payload


def track(*fields: bytes) -> bytes:
    """Return the beginning of a WebM with one audio track."""
    return WEBM_HEAD + ebml("1654ae6b", ebml("ae", b"".join([ebml("d7", b"\1"), ebml("83", b"\2"), *fields])))


def wav(rate: int, channels: int) -> bytes:
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels, 2 * channels, 16)
    return b"RIFF\0\0\0\0WAVEfmt " + form + b"data\0\0\0\0" + bytes(999)


def page(flags: int, *packets: bytes) -> bytes:
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, 1, 0, 0, len(packets))
    return head + bytes(map(len, packets)) + b"".join(packets)


WEBM_HEAD = ebml("1a45dfa3", b"") + bytes.fromhex("18538067 01ffffffffffffff")
MP4_HEAD = box(b"ftyp", b"isom\0\0\0\0")
OPUS, VORBIS, HERTZ = ebml("86", b"A_OPUS"), ebml("86", b"A_VORBIS"), "b5"
NAMES = b"".join(box(struct.pack(">I", number), b"") for number in range(100_000))
NESTED = b"\0\0\0\0mdia" * 90_000
HOSTILE = {
    "a WebM packet of 1 GB": WEBM_HEAD + ebml("1f43b675", b"", 2**40) + ebml("a3", b"", 2**30),
    "WebM tracks of 1 GB": WEBM_HEAD + ebml("1654ae6b", b"", 2**30),
    "WebM tags without an end": WEBM_HEAD + ebml("1254c367", b"", 2**50),
    "a WebM element without a size": WEBM_HEAD + bytes.fromhex("1654ae6b ff"),
    "WebM within WebM": WEBM_HEAD + bytes.fromhex("18538067 ff") * 100_000 + b"\0",
    "a WebM without sound": WEBM_HEAD + ebml("1654ae6b", ebml("ae", ebml("83", b"\1"))),
    "an encrypted WebM": track(ebml("6d80", b""), OPUS),
    "a WebM of 0.001 Hz": track(VORBIS, ebml("e1", ebml(HERTZ, struct.pack(">f", 0.001)))),
    "a WebM of no number of Hz": track(OPUS, ebml("e1", ebml(HERTZ, struct.pack(">d", float("nan"))))),
    "WebM floats of 0 bits": track(ebml("86", b"A_PCM/FLOAT/IEEE"), ebml("e1", ebml("6264", b"\0"))),
    "WebM samples of a number of bits with 5,000 digits": track(
        ebml("86", b"A_PCM/INT/LIT"), ebml("e1", ebml("6264", b"\xff" * 2100))
    ),
    "a WebM packet in too many parts": track(OPUS) + ebml("a3", b"\x81\0\0\x02\xff"),
    "an MP4 index of 2 GB": MP4_HEAD + box(b"moov", b"", 2**31),
    "an MP4 box of 2**63 bytes": MP4_HEAD + struct.pack(">I4sQ", 1, b"free", 2**63),
    "an MP4 box of no bytes": MP4_HEAD + box(b"free", b"", 4),
    "MP4 boxes within each other": MP4_HEAD + box(b"moov", box(b"trak", box(b"mdia", NESTED))),
    "MP4 with its sound first": MP4_HEAD + box(b"mdat", bytes(100)),
    "MP4 boxes of 100,000 names": MP4_HEAD + box(b"moov", box(b"trak", NAMES)),
    "an ID3 tag and no more": b"ID3\4\0\0\0\0\0\0" + bytes(40_000),
    "a WAV format of 4 GB": b"RIFF\0\0\0\0WAVEfmt \xf0\xff\xff\xff",
    "a WAV of 1 Hz": wav(1, 1),
    "a WAV of 200 channels": wav(16000, 200),
    "a WAV of no channels": wav(16000, 0),
    "a FLAC without its first block": b"fLaC\x81\0\0\x22" + bytes(34) + bytes(9),
    "an Ogg without sound": page(2, b"\x80theora!!") + page(0, b"x"),
    "Opus for 200 ears": page(2, b"OpusHead\1\xc8\0\0\x80\xbb\0\0\0\0\0") + page(0, b"OpusTags"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_made_to_hurt_is_refused(name: str) -> None:
    tracemalloc.start()
    try:
        assert outcome(chunks(HOSTILE[name], 10_000)) is None
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("hertz", [1, 3999, 384_001, 2**31 - 1])
def test_a_codec_that_says_an_odd_rate_is_refused(hertz: int) -> None:
    """Of a Vorbis stream of 1 Hz, each sample would become 16,000."""
    data = bytearray(reading(VORBIS_OGG, 0.5))
    at = data.index(b"\x01vorbis") + 12
    data[at : at + 4] = hertz.to_bytes(4, "little")
    with pytest.raises(BadRequest, match=f"has {hertz} samples a second"):
        decoded([bytes(data)])


@pytest.mark.parametrize("media", TYPES)
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused_before_the_next_ones_come(media: str, seed: int) -> None:
    decoder = Decoder(ContentType.parse(media))

    def feed() -> None:
        for piece in chunks(random.Random(seed).randbytes(20_000), 1000):
            list(decoder.feed(piece))

    with pytest.raises(BadRequest):
        feed()


@pytest.mark.parametrize("form", CONTAINERS, ids=str)
def test_a_stream_that_is_cut_is_heard_up_to_there(form: Form) -> None:
    """In the middle of whatever it was in: an MP4 box, an Ogg page, a WebM cluster."""
    said, data = clip.pcm(seconds=2.0), reading(form, 2.0)
    for share in (0.5, 0.7, 0.9):
        heard = decoded(chunks(data[: int(len(data) * share)], 1000))
        assert abs(len(heard) - share * len(said)) / 32000 < 0.5
        assert form.rate < RATE or likeness(said[: len(heard)], heard) > 0.9


RATE = 16000


@pytest.mark.parametrize("form", FEW, ids=str)
def test_damage_is_refused_or_heard_and_nothing_else(form: Form) -> None:
    data = reading(form, 0.25)
    places = st.integers(0, len(data) - 1) | st.integers(0, 600)  # the headers, half of the time

    @settings(max_examples=40)
    @given(st.lists(st.tuples(places, st.integers(0, 255)), max_size=20), st.integers(100, 3000))
    def check(damage: list[tuple[int, int]], size: int) -> None:
        damaged = bytearray(data)
        for place, byte in damage:
            damaged[place] = byte
        outcome(chunks(bytes(damaged), size))

    check()


@pytest.mark.parametrize("form", [form for form in CONTAINERS if form.container != "wav"], ids=str)
def test_junk_in_the_middle_is_refused_within_seconds(form: Form) -> None:
    """It is refused as it comes, or it gives no sound, and then its time is up."""
    clock, data = Clock(), reading(form, 2.0)
    decoder = Decoder(ContentType.undeclared(), clock)
    if "faststart" in form.options.get("movflags", "") or form.codec.startswith("pcm"):
        pytest.skip("its index says how much is sound: any bytes are")
    junk = random.Random(3).randbytes(20_000)
    try:
        for piece in chunks(data[: len(data) // 2] + junk, 1000):
            list(decoder.feed(piece))
        clock.now += STALL_SECONDS
        assert decoder.is_stalled()
    except BadRequest:
        pass


def test_a_stream_that_gives_no_sound_is_given_up() -> None:
    clock = Clock()
    decoder = Decoder(ContentType.undeclared(), clock)
    head = WEBM_HEAD + ebml("1654ae6b", ebml("ae", ebml("d7", b"\1") + ebml("83", b"\2") + ebml("86", b"A_OPUS")))
    list(decoder.feed(head))
    clock.now = 60.0
    assert not decoder.is_stalled()  # a header, and then a pause
    list(decoder.feed(ebml("a3", b"", STALL_BYTES) + bytes(STALL_BYTES - 1)))
    clock.now += STALL_SECONDS
    assert decoder.is_stalled()


def test_a_pause_of_the_speaker_is_no_stall() -> None:
    for form in (WEBM, OGG, FORMS[11], FORMS[23], FORMS[20]):
        clock, data = Clock(), reading(form, 2.0)
        decoder = Decoder(ContentType.undeclared(), clock)
        for piece in chunks(data[: len(data) // 2], 1000):
            list(decoder.feed(piece))
            clock.now += 60.0
            assert not decoder.is_stalled(), form


def test_a_picture_before_the_sound_may_be_long() -> None:
    clock = Clock()
    decoder = Decoder(ContentType.parse("audio/mpeg"), clock)
    picture = b"ID3\4\0\0\0\7\0\0" + bytes(7 << 14)
    for piece in chunks(picture, 10_000):
        list(decoder.feed(piece))
        clock.now += 1.0
        assert not decoder.is_stalled()
    assert b"".join(decoder.feed(reading(FORMS[20], 0.5)))


def test_much_sound_in_few_bytes_comes_in_pieces() -> None:
    """An hour of silence is 300 KB of FLAC: it is decoded as fast as it is taken."""
    data = encoded(bytes(32000 * 600), FORMS[23])
    decoder = Decoder(ContentType.undeclared())
    tracemalloc.start()
    try:
        heard = sum(len(pcm) for pcm in decoder.feed(data)) + sum(map(len, decoder.finish()))
        assert heard == 32000 * 600
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "media", ["audio/x-mulaw", "audio/x-raw;layout=interleaved;rate=16000;format=F32LE;channels=1"]
)
def test_an_empty_stream_is_silence(media: str) -> None:
    assert decoded([], ContentType.parse(media)) == b""
    assert decoded([], ContentType.parse("audio/webm")) == b""


@pytest.mark.parametrize("form", [WEBM, OGG, FORMS[11], FORMS[20], FORMS[23]], ids=str)
def test_a_container_that_is_called_samples_is_refused_with_the_cure(form: Form) -> None:
    with pytest.raises(BadRequest, match=f"send content_type={form.media}"):
        decoded([reading(form)], ContentType.parse("audio/x-raw;layout=interleaved;rate=16000;format=F32LE;channels=1"))


@given(st.binary(max_size=5000), st.sampled_from(TYPES), st.integers(1, 2000))
def test_nothing_but_a_refusal_comes_of_any_bytes(data: bytes, media: str, size: int) -> None:
    outcome(chunks(data, size), ContentType.parse(media))
