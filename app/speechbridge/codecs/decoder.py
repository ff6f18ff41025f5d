"""From a client's bytes to 16 kHz mono S16LE, as they arrive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from speechbridge.audio import RATE, SAMPLE
from speechbridge.codecs import flac, mp4, mpeg, ogg, wav, webm
from speechbridge.codecs.codec import Codec
from speechbridge.codecs.detect import kind_of
from speechbridge.codecs.samples import FORMATS, samples
from speechbridge.codecs.source import Ended, Source, Track
from speechbridge.protocol.request import BadRequest, ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PIECE = SAMPLE * RATE // 10  # bytes that are given on at once: 100 ms

STALL_BYTES = 4096  # that give no sound. The headers before the first sound are shorter, except such as say their size
STALL_SECONDS = 2.0  # since the first of them; or since the last, where a size says that many are to come

READERS = {
    "audio/x-wav": wav.read,
    "audio/x-flac": flac.read,
    "audio/webm": webm.read,
    "audio/ogg": ogg.read,
    "audio/mp4": mp4.read,
    "audio/aac": mpeg.read,
    "audio/mpeg": mpeg.read,
}
HEADLESS = ("audio/aac", "audio/mpeg")  # they may have been cut into anywhere

Reader = "Generator[Track | bytes | None, None, None]"


class Decoder:
    """Decodes one stream. `feed` and `finish` are for one thread; `is_stalled` is for any.

    Memory is bounded by a piece of input and the largest packet.
    """

    def __init__(self, content_type: ContentType, clock: Callable[[], float] = time.monotonic) -> None:
        self._type = content_type
        self._clock = clock
        self._source = Source()
        self._reader = self._read()
        self._codec: Codec | None = None
        self._pcm = bytearray()
        self._has_sound = False
        self._fruitless = 0  # bytes since the last sound
        self._fruitless_since: float | None = None
        self._fed_at = 0.0
        self._is_feeding = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the samples that so many more bytes give, in pieces. Raises BadRequest for what cannot be decoded."""
        self._is_feeding = True
        self._source.feed(data)
        self._fruitless += len(data)
        self._fed_at = self._clock()
        self._fruitless_since = self._fed_at if self._fruitless_since is None else self._fruitless_since
        yield from self._decoded()
        self._is_feeding = False

    def finish(self) -> Iterator[bytes]:
        """Yield the last samples. Raises BadRequest if there was input, but nothing in it to hear.

        A stream may be cut anywhere: what is not whole at its end is dropped.
        """
        self._source.end()
        yield from self._decoded()
        if self._codec is not None:
            self._pcm += self._codec.finish()
        elif self._source.position or len(self._source):
            raise BadRequest("the stream ended before its first sound")
        yield from self._pieces()

    def is_stalled(self) -> bool:
        """Tell whether all that was fed for some seconds gave no sound: the stream is damaged, or nothing at all.

        What says its size, as metadata does, may take longer, as long as it comes.
        """
        since = self._fruitless_since
        if since is None or self._is_feeding:
            return False
        if self._source.is_patient:
            since = self._fed_at
        return self._fruitless >= max(STALL_BYTES, self._source.unheard) and self._clock() - since >= STALL_SECONDS

    def _decoded(self) -> Iterator[bytes]:
        try:
            for item in self._reader:
                if item is None:
                    break
                self._take(item)
                if len(self._pcm) >= PIECE:
                    yield from self._pieces()
        except Ended:
            pass
        yield from self._pieces()

    def _take(self, item: Track | bytes) -> None:
        if isinstance(item, bytes):
            if self._codec is None:
                raise BadRequest("the stream is damaged: it does not say how its sound is encoded")
            self._pcm += self._codec.decode(item)
            return
        if self._codec is not None:
            self._pcm += self._codec.finish()
        self._codec = Codec(item)

    def _pieces(self) -> Iterator[bytes]:
        if self._pcm:
            self._fruitless, self._fruitless_since = 0, None
            whole, self._pcm = bytes(self._pcm), bytearray()
            for start in range(0, len(whole), PIECE):
                yield whole[start : start + PIECE]

    # ---- which reader ------------------------------------------------------------------------------------------------

    def _read(self) -> Generator[Track | bytes | None, None, None]:
        if self._type.media not in READERS and self._type.media != ContentType.UNDECLARED:
            yield from self._check_samples()
            codec, size = FORMATS[self._type.format or ""]
            yield Track(codec, b"", self._type.rate or 0, self._type.channels or 0).checked()
            yield from samples(self._source, size * (self._type.channels or 1), form=self._type.format or "")
            return
        reader = READERS[(yield from self._kind())]
        while True:  # some clients send one file after the other
            yield from reader(self._source)
            reader = READERS[(yield from self._kind())]

    def _kind(self) -> Generator[None, None, str]:
        """Return what comes next. Containers say it themselves, and clients are often mistaken about it."""
        kind = yield from self._detected()
        if not kind and self._type.media in HEADLESS:
            return self._type.media
        if not kind:
            raise BadRequest(f"this is no {self._shown()} that we can read: send the stream from its first byte")
        return kind

    def _detected(self) -> Generator[None, None, str]:
        wanted = 1
        while True:
            begun = yield from self._source.peek(wanted)
            if not begun:
                raise Ended
            kind = kind_of(begun, is_all=len(begun) < wanted)
            if kind is not None:
                return kind
            wanted = len(begun) + 1

    def _check_samples(self) -> Generator[None, None, None]:
        kind = yield from self._detected()
        if kind and self._type.media == ContentType.RAW:
            raise BadRequest(f"this is {kind}, not raw samples: send content_type={kind}")

    def _shown(self) -> str:
        return "audio" if self._type.media == ContentType.UNDECLARED else self._type.media


def decodes(content_type: ContentType) -> bool:
    """Tell whether a stream is decoded here: all but raw 16-bit samples, and those whose channels are not interleaved.

    Raises BadRequest for raw samples of a format that we do not know.
    """
    is_known = content_type.media != ContentType.RAW or content_type.format in FORMATS
    if not is_known:
        raise BadRequest(f"content_type format={content_type.format!r}: send S16LE, S24LE, S32LE or F32LE")
    return content_type.media != ContentType.RAW or (
        content_type.format != "S16LE" and (content_type.layout == "interleaved" or content_type.channels == 1)
    )
