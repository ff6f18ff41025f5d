"""The request for a stream: the path and the query of its URL, as Rev.ai defines them. Pure.

Reading is tolerant, because clients differ: unknown parameters are ignored. Writing is strict. Sources: Rev.ai's
streaming documentation and its Python, Node and Java SDKs.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, unquote, urlencode

from speechbridge.protocol.media import CONTAINERS, SAMPLES, TELEPHONE
from speechbridge.protocol.query import count, parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATH = "/speechtotext/v1/stream"

RAW_SPELLINGS = {  # other names of raw samples, in lower case, as libraries and registries have them
    "audio/raw": "audio/x-raw",
    "audio/pcm": "audio/x-raw",
    "audio/x-pcm": "audio/x-raw",
}

MOST_PARAMETERS = 100
LONGEST_OPTIONS = 6144  # bytes in a URL: servers accept lines of 8 KiB. Rev.ai's metadata has at most 512


class BadRequest(Exception):
    """A request that Rev.ai would answer with 4002. The text is the close reason, for the client."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """The format of the audio: a container (`audio/webm`), telephone audio, or `audio/x-raw` with its four parameters.

    `UNDECLARED` stands for audio whose type the client does not name: it is detected from the first bytes.
    """

    RAW: ClassVar = "audio/x-raw"
    UNDECLARED: ClassVar = "application/octet-stream"
    RATES: ClassVar = range(8000, 48001)
    CHANNELS: ClassVar = range(1, 11)

    media: str
    layout: str | None = None
    rate: int | None = None  # samples a second
    format: str | None = None  # in upper case, as GStreamer names them: S16LE
    channels: int | None = None

    @classmethod
    def raw(cls, rate: int = 16000, channels: int = 1) -> ContentType:
        """Return the type of 16-bit little-endian interleaved samples without a header."""
        return cls(cls.RAW, "interleaved", rate, "S16LE", channels)

    @classmethod
    def undeclared(cls, otherwise: ContentType | None = None) -> ContentType:
        """Return the type of audio that is detected from its first bytes; `otherwise` is used if that fails."""
        return cls(cls.UNDECLARED) if otherwise is None else replace(otherwise, media=cls.UNDECLARED)

    @classmethod
    def parse(cls, text: str) -> ContentType:
        """Read a content type, in the spellings that clients use. Raises BadRequest, whose text says what is wrong.

        Media types and names of parameters may be in upper or lower case, and values may be quoted. Parameters are
        separated by `;` or `,`. A value may have its type before it, as GStreamer shows it: `rate=(int)16000`.
        """
        named, *rest = (part.strip() for part in re.split("[;,]", _unwrapped(text)))
        given = {}
        for name, _, value in (part.partition("=") for part in rest if part):
            given[name.strip().lower()] = re.sub(r"^\(\w+\)", "", value.strip(" \"'")).strip(" \"'")
        media = RAW_SPELLINGS.get(named.lower(), named.lower())
        if media in CONTAINERS:
            return cls(CONTAINERS[media])
        if media in SAMPLES:
            return cls._of_samples(*SAMPLES[media], given)
        if media == cls.UNDECLARED:
            return cls.undeclared()
        if media != cls.RAW:
            raise BadRequest(
                f"content_type {_shown(named)}: send audio/webm, audio/ogg, audio/mp4, audio/x-wav or audio/x-raw"
            )
        missing = [name for name in ("layout", "rate", "format", "channels") if not given.get(name)]
        if missing:
            example = str(cls.raw()).partition(";")[2]  # the whole would not fit into a close reason
            raise BadRequest(f"audio/x-raw lacks {', '.join(missing)}: for example {example}")
        layout, form = given["layout"].lower(), given["format"]
        if layout not in ("interleaved", "non-interleaved"):
            raise BadRequest(f"content_type layout={_shown(given['layout'])}: send interleaved or non-interleaved")
        if not re.fullmatch(r"\w{1,20}", form, re.ASCII):  # it is logged: a newline would forge a log line
            raise BadRequest(f"content_type format={_shown(form)}: send S16LE")
        return cls(
            media,
            layout,
            _whole(given["rate"], "content_type rate", cls.RATES),
            form.upper(),
            _whole(given["channels"], "content_type channels", cls.CHANNELS),
        )

    @classmethod
    def _of_samples(cls, media: str, form: str, given: Mapping[str, str]) -> ContentType:
        rate = _whole(given.get("rate", str(TELEPHONE)), "content_type rate", cls.RATES)
        channels = _whole(given.get("channels", "1"), "content_type channels", cls.CHANNELS)
        return cls(media, "interleaved", rate, form, channels)

    @property
    def byte_rate(self) -> int | None:
        """Bytes a second; None if that is known only after decoding."""
        if self.media != self.RAW or self.format != "S16LE":
            return None
        return 2 * (self.rate or 0) * (self.channels or 0) or None

    @property
    def frame(self) -> int | None:
        """Bytes of one sample of all channels; None if a stream cannot begin in the middle of such audio."""
        is_interleaved = self.layout == "interleaved" or self.channels == 1
        if self.media != self.RAW or self.format != "S16LE" or not is_interleaved:
            return None
        return 2 * (self.channels or 1)

    def __str__(self) -> str:
        if self.rate is None or self.media == self.UNDECLARED:
            return self.media
        if self.media != self.RAW:
            return f"{self.media};rate={self.rate};channels={self.channels}"
        return f"{self.media};layout={self.layout};rate={self.rate};format={self.format};channels={self.channels}"


MISSING = f"content_type is missing: for example {ContentType.raw()}"


def _unwrapped(text: str) -> str:
    """Remove quotes around the whole content type, and decode it if it was percent-encoded twice."""
    text = text.strip()
    if re.match(r"""["']?\w+%2F""", text, re.IGNORECASE):
        text = unquote(text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text


def _shown(value: str) -> str:
    shown = repr(value)
    if len(shown.encode()) > 42:  # leaves room for the rest of a close reason
        shown = shown.encode()[:38].decode(errors="ignore") + "...'"
    return shown


def _whole(value: str, name: str, allowed: range) -> int:
    if value.isascii() and value.isdigit() and len(value) < 12 and int(value) in allowed:  # int() is slow for long ones
        return int(value)
    raise BadRequest(f"{name}={_shown(value)}: send a whole number from {allowed.start} to {allowed.stop - 1}")


def _count(value: str, name: str) -> int:
    return _whole(value, name, range(2**31))


def _segment(value: str, name: str) -> int:
    return _whole(value, name, range(5, 31))


def _seconds(value: str, name: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadRequest(f"{name}={_shown(value)}: send seconds, 0 or more")
    return seconds


def _flag(value: str, name: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise BadRequest(f"{name}={_shown(value)}: send true or false")
    return value.lower() == "true"


def _text(value: str, _name: str) -> str:
    return value


Option = str | int | float | bool

OPTIONS: Mapping[str, Callable[[str, str], Option]] = {
    "language": _text,
    "metadata": _text,
    "custom_vocabulary_id": _text,
    "filter_profanity": _flag,
    "remove_disfluencies": _flag,
    "delete_after_seconds": _count,
    "detailed_partials": _flag,
    "start_ts": _seconds,
    "max_segment_duration_seconds": _segment,
    "transcriber": _text,
    "enable_speaker_switch": _flag,
    "skip_postprocessing": _flag,
    "priority": _text,
    "max_connection_wait_seconds": _count,
}
"""Every query parameter except `access_token` and `content_type`, with the function that reads it."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The parameters of a stream.

    `options` holds those parameters of `OPTIONS` that were given, converted to their types. A repr never shows
    `access_token`.
    """

    content_type: ContentType
    options: Mapping[str, Option] = field(default_factory=dict)
    access_token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, query: str, otherwise: ContentType | None = None) -> StreamRequest:
        """Read a URL's query, percent-encoded or not (Node and Java do not encode `;` and `/`). Raises BadRequest.

        Unknown and empty parameters are ignored; the last value of a repeated parameter counts. `otherwise` is the type
        to use if the query names none; without it, a missing type is an error.
        """
        if count(query) > MOST_PARAMETERS:
            raise BadRequest(f"the query has more than {MOST_PARAMETERS} parameters")
        given = parameters(query)
        content_type = ContentType.parse(given["content_type"]) if "content_type" in given else otherwise
        if content_type is None:
            raise BadRequest(MISSING)
        options = {name: read(given[name], name) for name, read in OPTIONS.items() if name in given}
        if (size := len(encode_query(options))) > LONGEST_OPTIONS:
            raise BadRequest(f"the parameters take {size} bytes of a URL: {LONGEST_OPTIONS} at most, as for metadata")
        return cls(content_type, options, given.get("access_token", ""))

    def query(self) -> str:
        """Write the URL's query, including the access token."""
        pairs = {"access_token": self.access_token, "content_type": str(self.content_type), **self.options}
        return encode_query({name: value for name, value in pairs.items() if value != ""})


def encode_query(options: Mapping[str, Option]) -> str:
    """Write parameters as the query of a URL: booleans in lower case, everything percent-encoded."""
    return urlencode(
        {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()},
        quote_via=quote,
    )
