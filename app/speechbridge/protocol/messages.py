"""The messages of a stream: audio and `EOS` from the client; `connected`, `partial` and `final` from the server. Pure.

A connection begins with a GET whose query carries all parameters (`request.StreamRequest`). The server sends
`connected` (after `queued`, if the client has to wait: `protocol.queue`). The client sends binary audio and then the
text `EOS`, while the server sends `partial` and `final`. It ends with a close frame (`close.Close`).

Reading is tolerant, because servers differ: unknown types of messages and elements, and unknown fields, are ignored.
Writing is strict.
Sources: Rev.ai's streaming documentation and its Python, Node and Java SDKs.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

EOS = "EOS"  # as a text message; the same bytes in a binary message are audio


@dataclass(frozen=True, slots=True)
class Element:
    """A part of a hypothesis: a word, or the punctuation between two. Times are in seconds; None if not given.

    `speaker` names the speaker, if the service distinguishes speakers.
    """

    value: str
    type: str = "text"  # or "punct"; servers may send others
    ts: float | None = None
    end_ts: float | None = None
    confidence: float | None = None  # 0 to 1
    speaker: str | None = None

    def _json(self) -> dict[str, Any]:
        known = {"ts": self.ts, "end_ts": self.end_ts, "confidence": self.confidence, "speaker": self.speaker}
        return {"type": self.type, "value": self.value} | {k: v for k, v in known.items() if v is not None}


@dataclass(frozen=True, slots=True)
class Connected:
    """The server's first message: it is ready for audio. `read` is the token for readers, if the client shares."""

    id: str
    read: str | None = field(default=None, repr=False)

    def encode(self) -> str:
        shared = {} if self.read is None else {"read": self.read}
        return json.dumps({"type": "connected", "id": self.id} | shared)


@dataclass(frozen=True, slots=True)
class Queued:
    """The client waits in the queue, before `connected`: at this place, counted from 1, for about `wait_seconds` more.

    If its connection is lost, it keeps its place by reconnecting with `ticket` within 10 s.
    """

    place: int
    wait_seconds: int
    ticket: str = field(repr=False)

    def encode(self) -> str:
        return json.dumps(
            {"type": "queued", "place": self.place, "wait_seconds": self.wait_seconds, "ticket": self.ticket}
        )


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A transcript of the audio from `ts` to `end_ts`, in seconds since the stream began, plus its `start_ts`.

    `engine` names the speech service if it is the fallback; None for the usual one.
    """

    ts: float
    end_ts: float
    elements: tuple[Element, ...] = ()
    engine: str | None = None

    @property
    def words(self) -> tuple[Element, ...]:
        return tuple(element for element in self.elements if element.type == "text")

    def _encode(self, kind: str) -> str:
        elements = [element._json() for element in self.elements]  # noqa: SLF001 # same file, same format
        message = {"type": kind, "ts": self.ts, "end_ts": self.end_ts, "elements": elements}
        return json.dumps(message if self.engine is None else message | {"engine": self.engine})


@dataclass(frozen=True, slots=True)
class Partial(Hypothesis):
    """An interim result: it may still change, and even get shorter."""

    @property
    def text(self) -> str:
        return " ".join(element.value for element in self.elements)

    def encode(self) -> str:
        return self._encode("partial")


@dataclass(frozen=True, slots=True)
class Final(Hypothesis):
    """A final result: it never changes. Its punctuation includes the spaces."""

    @property
    def text(self) -> str:
        return "".join(element.value for element in self.elements)

    def encode(self) -> str:
        return self._encode("final")


Message = Connected | Queued | Partial | Final


_TYPE_FIRST = re.compile(r'\s*\{\s*"type"\s*:\s*"(\w*)"')


def kind_of(text: str) -> str:
    """Return the type of a message; "" for a text without one. Fast if the type comes first, as Rev.ai writes it."""
    if found := _TYPE_FIRST.match(text):
        return found[1]
    try:
        return str(json.loads(text)["type"])
    except (ValueError, TypeError, KeyError, RecursionError):  # RecursionError: a thousand nested brackets
        return ""


def end_of_final(text: str) -> float | None:
    """Return the `end_ts` of a final, up to which it settles the audio; None for anything else."""
    if '"final"' not in text:  # most are partials, and need no parsing
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _number(message.get("end_ts")) if isinstance(message, dict) and message.get("type") == "final" else None


_TIMES_FIRST = re.compile(
    r'\s*\{\s*"type"\s*:\s*"(?:partial|final)"\s*,\s*"ts"\s*:\s*[^,{}]+,\s*"end_ts"\s*:\s*([-+.\deE]+)\s*[,}]'
)


def end_of_words(text: str) -> float | None:
    """Return the `end_ts` of a partial or final that has elements; None for one without, and for anything else.

    Fast if type and times come first, as Rev.ai writes them.
    """
    if '"value"' not in text:
        return None
    try:
        if found := _TIMES_FIRST.match(text):
            return _number(float(found[1]))
        message = parse_object(text)
    except ValueError:
        return None
    return _number(message.get("end_ts")) or 0.0 if message["type"] in ("partial", "final") else None


def with_engine(text: str, name: str) -> str:
    """Add the field `engine` at the end of a message, without parsing it. A text that is no message stays as it is."""
    body = text.rstrip()
    if not body.endswith("}") or kind_of(text) == "":
        return text
    return f'{body[:-1]}, "engine": {json.dumps(name)}}}'


def parse_message(text: str | bytes) -> Message | None:
    """Read a server's message; None if its type is unknown.

    Missing elements, missing times and fields of wrong types are tolerated. Raises ValueError for anything but a JSON
    object with a type.
    """
    return from_object(parse_object(text))


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object with a type. Raises ValueError for anything else."""
    try:
        message = json.loads(text)
    except RecursionError:
        raise ValueError("too deeply nested") from None
    if not isinstance(message, dict) or "type" not in message:
        raise ValueError("not a JSON object with a type")
    return message


def from_object(message: dict[str, Any]) -> Message | None:
    """Return the message that an object with a type represents; None if the type is unknown."""
    match message["type"]:
        case "connected":
            read = message.get("read")
            return Connected(str(message.get("id", "")), read if isinstance(read, str) else None)
        case "queued":
            return _queued(message)
        case "partial":
            return Partial(*_fields(message))
        case "final":
            return Final(*_fields(message))
    return None


def _queued(message: dict[str, Any]) -> Queued:
    place, wait = (_number(message.get(name)) or 0.0 for name in ("place", "wait_seconds"))
    return Queued(int(place), int(wait), str(message.get("ticket", "")))


def _fields(message: dict[str, Any]) -> tuple[float, float, tuple[Element, ...], str | None]:
    """Return the fields of a hypothesis."""
    given, engine = message.get("elements"), message.get("engine")
    elements = tuple(
        Element(
            str(element.get("value", "")),
            str(element.get("type", "unknown")),
            _number(element.get("ts")),
            _number(element.get("end_ts")),
            _number(element.get("confidence")),
            None if element.get("speaker") is None else str(element["speaker"]),
        )
        for element in (given if isinstance(given, list) else ())
        if isinstance(element, dict)
    )
    times = _number(message.get("ts")) or 0.0, _number(message.get("end_ts")) or 0.0
    return *times, elements, engine if isinstance(engine, str) else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON does not limit integers
        return None
    return number if math.isfinite(number) else None  # Python's parser accepts NaN and Infinity, which are not JSON
