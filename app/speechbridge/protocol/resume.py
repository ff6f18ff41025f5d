"""Resumable streams: what our service adds to Rev.ai's protocol for clients that ask with `resume=true`. Pure.

    client, query       resume=true                                             begin a stream that may be resumed
    service             {"type": "connected", "id": ID, "resume": KEY, "position": 0}
    service             {"type": "received", "position": BYTES}                 the client may drop audio up to there
    client              {"type": "received", "finals": COUNT}                   the service may drop finals up to there
    client, query       resume=KEY&finals=COUNT                                 resume, having got so many finals
    service             `connected` again, with the position from which to send audio

Positions count the bytes of audio since the stream began. Finals are numbered by their order, so they carry no number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from speechbridge.protocol import messages
from speechbridge.protocol.close import CloseCode

if TYPE_CHECKING:
    from typing import Self, TypeGuard

RECONNECT_CODES = (
    CloseCode.GOING_AWAY,
    CloseCode.NO_CODE,
    CloseCode.ABNORMAL,
    CloseCode.INTERNAL,
    CloseCode.SERVICE_RESTART,
    CloseCode.TRY_AGAIN_LATER,
    CloseCode.BAD_GATEWAY,
    CloseCode.SHUTTING_DOWN,
)
"""The connection was cut, by a network, a proxy or a restart: the client reconnects, and resumes the same stream.

If the process has ended, and no other goes on with the stream, the answer is `UNKNOWN_STREAM`."""

COME_BACK_CODES = (CloseCode.SHUTTING_DOWN, CloseCode.TRY_AGAIN_LATER)
"""Of these, those by which a service asks the client to resume, which it does however often it is asked."""

NEW_STREAM_CODES = (
    CloseCode.UNAVAILABLE,
    CloseCode.TOO_MANY,
    CloseCode.CROWDED,
    CloseCode.TOO_OFTEN,
)
"""The stream is over, and the service may have room again: the client begins a new stream where the finals end."""

LONGEST_CONFIRMATION = 200  # characters. Ours have 40; reading millions of characters of JSON takes seconds

UNKNOWN_STREAM = CloseCode.BAD_REQUEST
"""In answer to a key: the service does not know the stream any more. The client begins a new one likewise."""


@dataclass(frozen=True, slots=True)
class Resume:
    """What a URL asks for: a resumable stream, or to resume the one of `key`, having got so many finals."""

    key: str | None = None
    finals: int = 0

    @classmethod
    def parse(cls, query: str) -> Self | None:
        """Read a URL's query; None if it does not ask for a resumable stream."""
        given = dict(parse_qsl(query))
        key, finals = given.get("resume", "false"), given.get("finals", "0")
        if key.lower() == "false":
            return None
        return cls(None if key.lower() == "true" else key, int(finals) if finals.isdecimal() and len(finals) < 9 else 0)

    def query(self) -> str:
        """Write the parameters of a URL's query."""
        return "resume=true" if self.key is None else urlencode({"resume": self.key, "finals": self.finals})


@dataclass(frozen=True, slots=True)
class Greeting:
    """`connected` for a resumable stream: its key, and the position from which the service expects audio."""

    id: str
    key: str
    position: int
    read: str | None = field(default=None, repr=False)  # the token for readers, if the client shares

    def encode(self) -> str:
        shared = {} if self.read is None else {"read": self.read}
        return json.dumps({"type": "connected", "id": self.id, "resume": self.key, "position": self.position} | shared)


@dataclass(frozen=True, slots=True)
class AudioReceived:
    """The service has received the audio up to a position; the client may drop it."""

    position: int

    def encode(self) -> str:
        return json.dumps({"type": "received", "position": self.position})


@dataclass(frozen=True, slots=True)
class FinalsReceived:
    """The client has received so many finals; the service may drop them."""

    finals: int

    def encode(self) -> str:
        return json.dumps({"type": "received", "finals": self.finals})

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a client's text message; None for one that confirms nothing, or is too long to be a confirmation."""
        if len(text) > LONGEST_CONFIRMATION:
            return None
        try:
            finals = json.loads(text)["finals"]
        except (ValueError, TypeError, KeyError, RecursionError):  # RecursionError: a thousand nested brackets
            return None
        return cls(finals) if _is_count(finals) else None


def parse_message(text: str | bytes) -> messages.Message | Greeting | AudioReceived | None:
    """Read a message of a service on a resumable stream; None for a type that we do not know.

    `connected` without a usable key and position is read as `Connected`: such a service cannot resume streams.
    Raises ValueError for what is not a JSON object with a type.
    """
    message = messages.parse_object(text)
    position = message.get("position")
    match message["type"]:
        case "connected" if isinstance(message.get("resume"), str) and _is_count(position):
            read = message.get("read")
            shared = read if isinstance(read, str) else None
            return Greeting(str(message.get("id", "")), message["resume"], position, shared)
        case "received":
            return AudioReceived(position) if _is_count(position) else None
    return messages.from_object(message)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
