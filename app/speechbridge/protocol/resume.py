"""Resumable streams: our extension of Rev.ai's protocol for clients that ask with `resume=true`. Pure.

    client, query       resume=true                                             begin a stream that can be resumed
    service             {"type": "connected", "id": ID, "resume": KEY, "position": 0}
    service             {"type": "received", "position": BYTES}                 acknowledges audio up to this position
    client              {"type": "received", "finals": COUNT}                   acknowledges this number of finals
    client, query       resume=KEY&finals=COUNT                                 resume, after receiving COUNT finals
    service             `connected` again, with the position from which to send audio

Each side may drop what the other has acknowledged. Positions count the bytes of audio since the stream began. Finals
are numbered by their order, so they carry no number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from speechbridge.protocol import messages
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.query import parameters

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
"""The connection was lost, through a network, a proxy or a restart: the client reconnects and resumes its stream.

If the process has ended, and no other process continues the stream, the answer is `UNKNOWN_STREAM`."""

COME_BACK_CODES = (CloseCode.SHUTTING_DOWN, CloseCode.TRY_AGAIN_LATER)
"""Of these, the codes with which the service asks the client to resume. The client does so any number of times."""

NEW_STREAM_CODES = (
    CloseCode.UNAVAILABLE,
    CloseCode.TOO_MANY,
    CloseCode.CROWDED,
    CloseCode.TOO_OFTEN,
)
"""The stream is over, but the service may accept another one: the client begins a new stream where the finals end."""

LONGEST_CONFIRMATION = 200  # characters. Ours have 40; parsing millions of characters of JSON takes seconds

UNKNOWN_STREAM = CloseCode.BAD_REQUEST
"""The answer to the key of a stream that no longer exists: the client also begins a new stream."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A URL's request for a resumable stream, or to resume the one of `key` after receiving `finals` finals."""

    key: str | None = None
    finals: int = 0

    @classmethod
    def parse(cls, query: str) -> Self | None:
        """Read a URL's query; None if it does not ask for a resumable stream."""
        given = parameters(query)
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
    """The service acknowledges the audio up to a position; the client may drop it."""

    position: int

    def encode(self) -> str:
        return json.dumps({"type": "received", "position": self.position})


@dataclass(frozen=True, slots=True)
class FinalsReceived:
    """The client acknowledges a number of finals; the service may drop them."""

    finals: int

    def encode(self) -> str:
        return json.dumps({"type": "received", "finals": self.finals})

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a client's text message; None if it is not such a message, or too long for one."""
        if len(text) > LONGEST_CONFIRMATION:
            return None
        try:
            finals = json.loads(text)["finals"]
        except (ValueError, TypeError, KeyError, RecursionError):  # RecursionError: a thousand nested brackets
            return None
        return cls(finals) if _is_count(finals) else None


def parse_message(text: str | bytes) -> messages.Message | Greeting | AudioReceived | None:
    """Read a service's message on a resumable stream; None if its type is unknown.

    `connected` without a usable key and position is read as `Connected`: such a service cannot resume streams. Raises
    ValueError for anything but a JSON object with a type.
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
