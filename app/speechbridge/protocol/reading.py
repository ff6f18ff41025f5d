"""Reading along: what our service adds to Rev.ai's protocol for those who read what another one speaks. Pure.

    speaker, query      share=true
    service             `connected` holds `read`, a token: who has it may read, and needs no key
    reader              a WebSocket at /read/TOKEN, or server-sent events from GET /read/TOKEN
    service             each final so far, then partials and finals as they come; a reader that is slow misses partials
    service             close 1000, or the event `end`, once the speaker's stream has ended

A server-sent final has its number as its id, from 1 on, and the event `end` has the next one. A reader that comes back
with `Last-Event-ID`, or over a WebSocket with `?after=NUMBER`, gets what follows. After the end it gets 204.

GET /read/TOKEN.srt, .vtt, .txt and .json give the finals so far as a file. All of it is gone an hour after the end.
A token that is not known is 404, or close 4004. A reader has nothing to say: what it sends ends its connection.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode

if TYPE_CHECKING:
    from typing import Self

PATH = "/read"
TOKEN_BYTES = 24  # 192 random bits: nobody guesses them

UNKNOWN = Close(CloseCode.NO_TRANSCRIPT, "there is no such transcript: it was never shared, or is gone since it ended")
ENDED = Close(CloseCode.NORMAL, END_OF_INPUT)
SILENT = Close(CloseCode.POLICY, "a reader has nothing to say: only read")
TOO_MANY = Close(CloseCode.CROWDED, "too many read this transcript: try again when one has left")


def new_token() -> str:
    """Generate a token."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_of(key: str) -> str:
    """Return the token of a stream with this resume key: who has it cannot find the key, and who has neither, neither.

    So a process that goes on with the stream knows the token, and nobody need keep it.
    """
    return urlsafe_b64encode(hmac.digest(key.encode(), b"read", "sha256")[:TOKEN_BYTES]).decode()


def shares(query: str) -> bool:
    """Tell whether a speaker's query asks for others to read along."""
    return dict(parse_qsl(query)).get("share", "").lower() == "true"


@dataclass(frozen=True, slots=True)
class Entry:
    """A message for readers, in its two forms. `number` is that of a final, from 1 on; 0 of a partial."""

    number: int
    text: str  # as a WebSocket message
    event: bytes  # as a server-sent event

    @classmethod
    def of(cls, text: str, number: int = 0) -> Self:
        data = "".join(f"data: {line}\n" for line in re.split("\r\n|\r|\n", text))
        return cls(number, text, (f"id: {number}\n" * (number > 0) + data + "\n").encode())


def end_event(number: int) -> bytes:
    """Return the event that ends a stream whose last final has this number."""
    return f"event: end\nid: {number + 1}\ndata: {{}}\n\n".encode()


COMMENT = b":\n\n"  # an event that is none: it keeps proxies from closing a stream in which nothing is said
