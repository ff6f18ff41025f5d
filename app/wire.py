"""Rev.ai's streaming protocol: what stands in its URL, its messages and its close frames. Pure, no I/O.

One connection is: a GET whose query carries everything (`StreamRequest`), `connected` from the server, binary
audio from the client until the text `EOS`, `partial` and `final` from the server, a close frame from the server.
Errors are close frames too, never HTTP statuses.

Reading is tolerant, as clients and servers differ: unknown parameters, message types, element types and fields
pass by. Writing is strict. Sources: Rev.ai's streaming documentation and its Python, Node and Java SDKs.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATH = "/speechtotext/v1/stream"
EOS = "EOS"  # as a text message; the same bytes in a binary message are audio

END_OF_INPUT = "End of input. Closing"
NO_DATA = "No data has been transferred, closing connection"
LIFETIME_REACHED = "Reached max session lifetime"

REASON_BYTES = 123  # a control frame holds 125 bytes, two of them the code: RFC 6455, 5.5


class CloseCode(IntEnum):
    """Why a connection ended. By RFC 6455, by Rev.ai's documentation (4xxx), and by us."""

    NORMAL = 1000
    GOING_AWAY = 1001
    NO_CODE = 1005  # the close frame was empty; never sent
    ABNORMAL = 1006  # no close frame came; never sent
    INVALID = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    BAD_GATEWAY = 1014
    UNAUTHORIZED = 4001
    BAD_REQUEST = 4002
    NO_CREDITS = 4003
    TOO_SLOW = 4008  # ours: the client does not read
    TAKEN_OVER = 4009  # ours: the same client came back on another connection
    SHUTTING_DOWN = 4010
    UNAVAILABLE = 4013
    TOO_MANY = 4029
    CROWDED = 4030  # from here on ours, too: this key or address has as many connections as it may
    TOO_OFTEN = 4031
    TOO_MANY_BYTES = 4032
    TOO_MANY_MESSAGES = 4033
    TOO_LONG = 4034
    IDLE = 4035
    FOREIGN = 4036  # a page of an origin that is not let in


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame: its code and its reason."""

    code: int
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})" if self.reason else str(self.code)

    def is_success(self, *, eos_sent: bool) -> bool:
        """Whether everything was heard: 1000 says so only after EOS, and means two failures too."""
        early = self.reason in (NO_DATA, LIFETIME_REACHED)
        return self.code == CloseCode.NORMAL and eos_sent and not early

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed at another time. Our request or our account is not to blame then."""
        return self.code not in (
            CloseCode.INVALID,
            CloseCode.UNAUTHORIZED,
            CloseCode.BAD_REQUEST,
            CloseCode.NO_CREDITS,
            CloseCode.TOO_LONG,
            CloseCode.IDLE,
            CloseCode.FOREIGN,
        )

    def passed_on(self) -> Close:
        """Return the frame that tells a client of this ending: some codes may not be sent to one.

        Those below 1000, 1004 to 1006 and 1015 are nobody's to send. 1012 and 1013 are lawful, but rev_ai's
        Python client breaks on them, so their Rev.ai equivalents stand in.
        """
        substitutes: dict[int, int] = {1012: CloseCode.SHUTTING_DOWN, 1013: CloseCode.UNAVAILABLE}
        code = substitutes.get(self.code, self.code)
        unsendable = not 1000 <= code < 5000 or code in (1004, 1005, 1006, 1015) or 1015 < code < 3000  # RFC 6455, 7.4
        return Close(CloseCode.INTERNAL if unsendable else code, fit_reason(self.reason))


def fit_reason(reason: str) -> str:
    """Cut a reason to what a close frame can carry, at a character's boundary."""
    return reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


class BadRequest(Exception):
    """A request that Rev.ai would answer with 4002. Its text is the reason, fit for the client's eyes."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """What the audio is: `audio/x-wav`, `audio/x-flac`, or `audio/x-raw` with all four of its parameters."""

    RAW: ClassVar = "audio/x-raw"
    CONTAINERS: ClassVar = ("audio/x-wav", "audio/x-flac")
    RATES: ClassVar = range(8000, 48001)
    CHANNELS: ClassVar = range(1, 11)

    media: str
    layout: str | None = None
    rate: int | None = None  # samples a second
    format: str | None = None  # case-sensitive, as in GStreamer: S16LE
    channels: int | None = None

    @classmethod
    def raw(cls, rate: int = 16000, channels: int = 1) -> ContentType:
        """16-bit little-endian interleaved samples, without a header."""
        return cls(cls.RAW, "interleaved", rate, "S16LE", channels)

    @classmethod
    def parse(cls, text: str) -> ContentType:
        """Read a content type; raise BadRequest with what is wrong and what would be right."""
        media, *rest = (part.strip() for part in text.split(";"))
        given = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in rest if part)}
        if media in cls.CONTAINERS:
            return cls(media)
        if media != cls.RAW:
            raise BadRequest(f"content_type {_shown(media)}: send audio/x-raw, audio/x-wav or audio/x-flac")
        missing = [name for name in ("layout", "rate", "format", "channels") if not given.get(name)]
        if missing:
            example = str(cls.raw()).partition(";")[2]  # all of it would not fit
            raise BadRequest(f"audio/x-raw lacks {', '.join(missing)}: for example {example}")
        if given["layout"] not in ("interleaved", "non-interleaved"):
            raise BadRequest(f"content_type layout={_shown(given['layout'])}: send interleaved or non-interleaved")
        if not re.fullmatch(r"\w{1,20}", given["format"], re.ASCII):  # it is logged: a line's end in it forges another
            raise BadRequest(f"content_type format={_shown(given['format'])}: send S16LE")
        return cls(
            media,
            given["layout"],
            _whole(given["rate"], "content_type rate", cls.RATES),
            given["format"],
            _whole(given["channels"], "content_type channels", cls.CHANNELS),
        )

    @property
    def byte_rate(self) -> int | None:
        """Bytes a second; None where only decoding would tell."""
        if self.media != self.RAW or self.format != "S16LE":
            return None
        return 2 * (self.rate or 0) * (self.channels or 0) or None

    def __str__(self) -> str:
        if self.media != self.RAW:
            return self.media
        return f"{self.media};layout={self.layout};rate={self.rate};format={self.format};channels={self.channels}"


def _shown(value: str) -> str:
    shown = repr(value)
    if len(shown.encode()) > 42:  # leaves room in a close reason
        shown = shown.encode()[:38].decode(errors="ignore") + "...'"
    return shown


def _whole(value: str, name: str, allowed: range) -> int:
    if value.isascii() and value.isdigit() and len(value) < 12 and int(value) in allowed:  # no int() of a megabyte
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
"""Every query parameter beside `access_token` and `content_type`, with how it is read."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asks for in its URL.

    `options` holds the parameters of `OPTIONS` that were given, in their own types. `access_token` never shows in
    a repr.
    """

    content_type: ContentType
    options: Mapping[str, Option] = field(default_factory=dict)
    access_token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, query: str) -> StreamRequest:
        """Read a URL's query, percent-encoded or not (Node and Java send `;` and `/` as they are).

        Unknown parameters and empty ones are ignored; of a repeated one the last counts. Raises BadRequest.
        """
        try:
            given = dict(parse_qsl(query, max_num_fields=100, errors="replace"))
        except ValueError:
            raise BadRequest("the query has more than 100 parameters") from None
        if "content_type" not in given:
            raise BadRequest(f"content_type is missing: for example {ContentType.raw()}")
        return cls(
            ContentType.parse(given["content_type"]),
            {name: read(given[name], name) for name, read in OPTIONS.items() if name in given},
            given.get("access_token", ""),
        )

    def query(self) -> str:
        """Write the URL's query, the access token included."""
        pairs = {"access_token": self.access_token, "content_type": str(self.content_type), **self.options}
        return encode_query({name: value for name, value in pairs.items() if value != ""})


def encode_query(options: Mapping[str, Option]) -> str:
    """Write parameters as a URL's query: booleans in lower case, everything percent-encoded."""
    return urlencode(
        {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()},
        quote_via=quote,
    )


@dataclass(frozen=True, slots=True)
class Element:
    """A piece of a hypothesis: a word, or what stands between two. Times in seconds; None where not given."""

    value: str
    type: str = "text"  # or "punct"; others may come
    ts: float | None = None
    end_ts: float | None = None
    confidence: float | None = None  # 0 to 1

    def _json(self) -> dict[str, Any]:
        times = {"ts": self.ts, "end_ts": self.end_ts, "confidence": self.confidence}
        return {"type": self.type, "value": self.value} | {k: v for k, v in times.items() if v is not None}


@dataclass(frozen=True, slots=True)
class Connected:
    """The server's first message: audio is welcome."""

    id: str

    def encode(self) -> str:
        return json.dumps({"type": "connected", "id": self.id})


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What was heard from `ts` to `end_ts`, in seconds from the stream's beginning (plus its `start_ts`)."""

    ts: float
    end_ts: float
    elements: tuple[Element, ...] = ()

    @property
    def words(self) -> tuple[Element, ...]:
        return tuple(element for element in self.elements if element.type == "text")

    def _encode(self, kind: str) -> str:
        elements = [element._json() for element in self.elements]  # noqa: SLF001 # same file, same format
        return json.dumps({"type": kind, "ts": self.ts, "end_ts": self.end_ts, "elements": elements})


@dataclass(frozen=True, slots=True)
class Partial(Hypothesis):
    """May still change, also shrink."""

    @property
    def text(self) -> str:
        return " ".join(element.value for element in self.elements)

    def encode(self) -> str:
        return self._encode("partial")


@dataclass(frozen=True, slots=True)
class Final(Hypothesis):
    """Never changes afterwards. Its punctuation carries the spaces."""

    @property
    def text(self) -> str:
        return "".join(element.value for element in self.elements)

    def encode(self) -> str:
        return self._encode("final")


Message = Connected | Partial | Final


_TYPE_FIRST = re.compile(r'\s*\{\s*"type"\s*:\s*"(\w*)"')


def kind_of(text: str) -> str:
    """Return a message's type, at a glance where it stands first, as Rev.ai writes it; "" for what has none."""
    if found := _TYPE_FIRST.match(text):
        return found[1]
    try:
        return str(json.loads(text)["type"])
    except (ValueError, TypeError, KeyError, RecursionError):  # RecursionError: brackets nested a thousand deep
        return ""


def end_of_final(text: str) -> float | None:
    """Return a final's `end_ts`, up to which it settles the audio; None for any other message, and for none at all."""
    if '"final"' not in text:  # most are partials, and need no parsing
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _number(message.get("end_ts")) if isinstance(message, dict) and message.get("type") == "final" else None


def parse_message(text: str) -> Message | None:
    """Read a server's text message; None for one of a type that we do not know.

    Missing elements, missing times and fields of odd types are tolerated. Raises ValueError for what is not a
    JSON object with a type.
    """
    try:
        message = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(message, dict) or "type" not in message:
        raise ValueError("not a JSON object with a type")
    match message["type"]:
        case "connected":
            return Connected(str(message.get("id", "")))
        case "partial":
            return Partial(*_heard(message))
        case "final":
            return Final(*_heard(message))
    return None


def _heard(message: dict[str, Any]) -> tuple[float, float, tuple[Element, ...]]:
    given = message.get("elements")
    elements = tuple(
        Element(
            str(element.get("value", "")),
            str(element.get("type", "unknown")),
            _number(element.get("ts")),
            _number(element.get("end_ts")),
            _number(element.get("confidence")),
        )
        for element in (given if isinstance(given, list) else ())
        if isinstance(element, dict)
    )
    return _number(message.get("ts")) or 0.0, _number(message.get("end_ts")) or 0.0, elements


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's integers have no end
        return None
    return number if math.isfinite(number) else None  # Python's parser knows NaN and Infinity; JSON does not
