"""From a client's bytes to 16 kHz mono S16LE, as they arrive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from speechbridge.audio import RATE, SAMPLE
from speechbridge.codecs import flac, mp4, mpeg, ogg, wav, webm
from speechbridge.codecs.codec import Codec
from speechbridge.codecs.detect import LOOKED_AT, kind_of, not_samples
from speechbridge.codecs.samples import FORMATS, samples
from speechbridge.codecs.source import Ended, Source, Track
from speechbridge.protocol.request import MISSING, BadRequest, ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PIECE = SAMPLE * RATE // 10  # bytes that are passed on at once: 100 ms

# A stream stalls after STALL_BYTES that gave no samples, within at least STALL_SECONDS. Headers without a size are
# shorter than that. Of a part that has a size, such as metadata, the seconds count from its last bytes.
STALL_BYTES = 4096
STALL_SECONDS = 2.0

READERS = {
    "audio/x-wav": wav.read,
    "audio/x-flac": flac.read,
    "audio/webm": webm.read,
    "audio/ogg": ogg.read,
    "audio/mp4": mp4.read,
    "audio/aac": mpeg.read,
    "audio/mpeg": mpeg.read,
}
HEADLESS = ("audio/aac", "audio/mpeg")  # without a file header: such a stream may begin anywhere

FROM_THE_FIRST = "record it again, or send all of it, from its first byte"


class Decoder:
    """Decodes one stream. Call `feed` and `finish` from one thread; `is_stalled` may be called from any.

    It holds at most one piece of input and the largest packet in memory.
    """

    def __init__(self, content_type: ContentType, clock: Callable[[], float] = time.monotonic) -> None:
        self._type = content_type
        self._clock = clock
        self.found = ""  # the detected container, as a content type
        self._source = Source()
        self._reader = self._read()
        self._codec: Codec | None = None
        self._pcm = bytearray()
        self._has_sound = False
        self._decoded_bytes = 0  # input up to the last samples, without bytes that were dropped
        self._silent_since = 0.0  # when the first byte arrived that has not given samples yet
        self._fed_at = 0.0
        self._is_feeding = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add input, and yield the samples that it gives, in pieces. Raises BadRequest if it cannot be decoded."""
        self._is_feeding = True
        self._fed_at = self._clock()
        if self._bytes_without_samples() <= 0:
            self._silent_since = self._fed_at
        self._source.feed(data)
        yield from self._decoded()
        self._is_feeding = False

    def finish(self) -> Iterator[bytes]:
        """Yield the last samples. Raises BadRequest if there was input, but no sound in it.

        A stream may end anywhere: an incomplete packet at its end is dropped.
        """
        self._source.end()
        yield from self._decoded()
        if self._codec is not None:
            self._pcm += self._codec.finish()
        elif self._source.position or len(self._source):
            kind = "stream" if self._type.media == ContentType.UNDECLARED else self._type.media
            raise BadRequest(f"this {self.found or kind} ended before its first sound: {FROM_THE_FIRST}")
        yield from self._pieces()

    def is_stalled(self) -> bool:
        """Tell whether the input of some seconds gave no samples: the stream is damaged, or is not audio.

        A part that has a size, such as metadata, may take longer, as long as its bytes arrive.
        """
        if self._is_feeding:
            return False
        since = self._fed_at if self._source.is_patient else self._silent_since
        least = max(STALL_BYTES, self._source.expected)
        return self._bytes_without_samples() >= least and self._clock() - since >= STALL_SECONDS

    def _bytes_without_samples(self) -> int:
        """Return how many bytes have arrived since the last samples, without metadata."""
        return self._source.received - self._source.dropped - self._decoded_bytes

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
                raise BadRequest("the stream is damaged: it does not name its codec")
            self._pcm += self._codec.decode(item)
            return
        if self._codec is not None:
            self._pcm += self._codec.finish()
        self._codec = Codec(item)

    def _pieces(self) -> Iterator[bytes]:
        if self._pcm:
            self._decoded_bytes = self._source.received - self._source.dropped
            whole, self._pcm = bytes(self._pcm), bytearray()
            for start in range(0, len(whole), PIECE):
                yield whole[start : start + PIECE]

    # ---- which reader ------------------------------------------------------------------------------------------------

    def _read(self) -> Generator[Track | bytes | None, None, None]:
        if self._type.media not in READERS and self._type.media != ContentType.UNDECLARED:
            if self._type.byte_rate is None:  # 16-bit samples were checked before: `FirstBytes`
                yield from self._check_samples()
            name, size = FORMATS[self._type.format or ""]
            yield Track(name, b"", self._type.rate or 0, self._type.channels or 0).checked()
            yield from samples(self._source, size * (self._type.channels or 1), form=self._type.format or "")
            return
        reader = READERS[(yield from self._kind())]
        while True:  # some clients send several files in one stream
            yield from reader(self._source)
            reader = READERS[(yield from self._kind())]

    def _kind(self) -> Generator[None, None, str]:
        """Return the kind of the next file. Trust its first bytes, not the content type, which is often wrong."""
        kind = yield from self._detected()
        if not kind and self._type.media in HEADLESS:
            return self._type.media
        if not kind:
            is_undeclared = self._type.media == ContentType.UNDECLARED and self._codec is None
            raise BadRequest(MISSING if is_undeclared else f"this is not {self._type.media}: {FROM_THE_FIRST}")
        self.found = kind
        return kind

    def _detected(self) -> Generator[None, None, str]:
        wanted = 1
        while True:
            is_all = len((yield from self._source.peek(wanted))) < wanted
            with self._source.look() as view:
                begun = bytes(view[:LOOKED_AT])
            if not begun:
                raise Ended
            kind = kind_of(begun, is_all=is_all or len(begun) == LOOKED_AT)
            if kind is not None:
                return kind
            wanted = len(begun) + 1

    def _check_samples(self) -> Generator[None, None, None]:
        kind = yield from self._detected()
        if kind and self._type.media == ContentType.RAW:
            raise not_samples(kind)


def is_decodable(begun: bytes) -> bool:
    """Tell whether the first bytes of a file give samples: then the rest can be decoded while it arrives."""
    decoder = Decoder(ContentType.undeclared())
    try:
        return any(True for start in range(0, len(begun), PIECE) for _ in decoder.feed(begun[start : start + PIECE]))
    except BadRequest:
        return False


def decodes(content_type: ContentType) -> bool:
    """Tell whether a stream can be decoded: all but raw samples in unknown formats, or not interleaved."""
    if content_type.media != ContentType.RAW:
        return True
    return content_type.format in FORMATS and (content_type.layout == "interleaved" or content_type.channels == 1)
