"""What the event loop and a decoding process say to each other. Each request is answered by one reply, in order."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass

from speechbridge.protocol.messages import Final, Partial

MAX_SEGMENT = 30.0  # seconds after which an utterance is cut; the most that Rev.ai lets one ask for


@dataclass(frozen=True, slots=True)
class Settings:
    """What a stream asks for: times in seconds."""

    start_ts: float = 0.0
    detailed_partials: bool = False
    max_segment: float = MAX_SEGMENT


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a stream of interleaved S16LE. Answered by None."""

    stream: int
    rate: int
    channels: int
    settings: Settings


@dataclass(frozen=True, slots=True)
class Feed:
    """Some bytes of it. Answered by what was heard."""

    stream: int
    audio: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """No more bytes. Answered by the rest of what was heard."""

    stream: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Forget the stream, wherever it stands, if it is there. Answered by None."""

    stream: int


Request = Open | Feed | Finish | Leave
Reply = list[Partial | Final] | None
READY: Reply = None  # the first reply, to no request: the first decoder is loaded

LENGTH = struct.Struct(">I")  # of the pickle that follows


def pack(message: Request | Reply) -> bytes:
    body = pickle.dumps(message)
    return LENGTH.pack(len(body)) + body
