"""A decoding process: `python -m speechbridge.recognizer.worker`. Requests come in on stdin, replies go out on stdout.

One process serves several streams, one request after the other, as decoding holds the interpreter's lock anyway.
Each request is answered by one reply, in order. The process ends when stdin does, and so with its parent, however
that dies.
"""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from typing import BinaryIO

from speechbridge.audio import Converter
from speechbridge.recognizer.requests import LENGTH, READY, Feed, Finish, Leave, Open, Reply, Request, pack
from speechbridge.recognizer.sphinx import Recognition, load


class Desk:
    """The streams of one process, and the decoders that they borrow: as many as were ever needed at once."""

    def __init__(self) -> None:
        self._idle = [load()]
        self._streams: dict[int, tuple[Converter, Recognition]] = {}

    def answer(self, request: Request) -> Reply:
        match request:
            case Open(stream, rate, channels, settings):
                decoder = self._idle.pop() if self._idle else load()
                self._streams[stream] = Converter(rate, channels), Recognition(decoder, settings)
                return None
            case Feed(stream, audio):
                converter, recognition = self._streams[stream]
                return recognition.feed(converter.feed(audio))
            case Finish(stream):
                converter, recognition = self._streams[stream]
                return recognition.feed(converter.finish()) + recognition.finish()
            case Leave(stream):
                if left := self._streams.pop(stream, None):
                    self._idle.append(left[1].close())
                return None


def _next(requests: BinaryIO) -> Request | None:
    """Read a request; None at the end of stdin."""
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = requests.read(length)
    return pickle.loads(body) if len(body) == length else None  # noqa: S301 # our parent's own words


def main() -> None:
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not pass for a reply
    desk = Desk()
    with requests, replies, suppress(BrokenPipeError):  # the parent died between request and reply
        replies.write(pack(READY))
        replies.flush()
        while (request := _next(requests)) is not None:
            replies.write(pack(desk.answer(request)))
            replies.flush()


if __name__ == "__main__":
    main()
