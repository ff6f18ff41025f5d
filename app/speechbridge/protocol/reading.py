"""Shared transcripts: our extension of Rev.ai's protocol that lets others read one client's transcript live. Pure.

    speaker, query      share=true
    service             `connected` holds `read`, a token: anyone who has it may read, without an API key
    reader              a WebSocket at /read/TOKEN, or server-sent events from GET /read/TOKEN
    service             each final so far, then partials and finals as they arrive; a slow reader misses partials
    service             close 1000, or the event `end`, once the speaker's stream has ended

As a server-sent event, a final has its number as its id, counted from 1, and the event `end` has the next number. A
reader that reconnects with `Last-Event-ID`, or over a WebSocket with `?after=NUMBER`, gets the messages after that one;
after the end it gets 204.

GET /read/TOKEN.srt, .vtt, .txt and .json return the finals so far as a file. All of this is deleted an hour after the
end. An unknown token is answered with 404, or close 4004. Readers must not send anything: a message from one closes its
connection.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.close import END_OF_INPUT, Close, CloseCode
from speechbridge.protocol.query import parameters

if TYPE_CHECKING:
    from typing import Self

PATH = "/read"
TOKEN_BYTES = 24  # 192 random bits, which nobody can guess

UNKNOWN = Close(CloseCode.NO_TRANSCRIPT, "there is no such transcript: it was never shared, or is gone since it ended")
ENDED = Close(CloseCode.NORMAL, END_OF_INPUT)
READ_ONLY = Close(CloseCode.POLICY, "a reader has nothing to say: only read")
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
    """Tell whether a speaker's query asks to share the transcript."""
    return parameters(query).get("share", "").lower() == "true"


@dataclass(frozen=True, slots=True)
class Entry:
    """A message for readers, encoded in two ways. `number` is that of a final, counted from 1; 0 for a partial."""

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


COMMENT = b":\n\n"  # a comment, which readers ignore: a heartbeat, so that proxies do not close an idle stream
