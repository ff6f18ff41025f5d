"""A script of the scripted recognizer as a start function: no server, no socket, no thread of its own.

This is the shortest way to a speech SDK with the answers that you want, for tests and demonstrations. It passes the
same contract tests as Rev.ai's SDK with a server that plays the same script.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.testing.script import BYTES_PER_SECOND, NORMAL, Drop, Echo, End, Say, Total, Wait, final, partial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.testing.script import Script


def scripted(script: Script = NORMAL) -> Callable[[Iterator[bytes]], Iterator[str]]:
    """Make a start function of a script. Steps that need a connection are skipped."""

    def start(audio: Iterator[bytes]) -> Iterator[str]:
        heard = _Heard(audio)
        for step in script:
            match step:
                case Say() if not step.binary:
                    yield step.text
                case Wait():
                    heard.until(step)
                case Echo():
                    yield from _echo(step, heard)
                case Total():
                    yield final(f"{heard.bytes}", "bytes", end_ts=heard.seconds).text
                case Drop():
                    raise UpstreamClosed(Close(CloseCode.ABNORMAL))
                case End():
                    close = Close(CloseCode.NO_CODE if step.code is None else step.code, step.reason)
                    if not close.is_success(eos_sent=heard.ended):
                        raise UpstreamClosed(close)
                    return

    return start


class _Heard:
    """The audio that was taken from the feed so far."""

    def __init__(self, audio: Iterator[bytes]) -> None:
        self._audio = audio
        self.bytes = 0
        self.chunks = 0
        self.ended = False

    @property
    def seconds(self) -> float:
        return self.bytes / BYTES_PER_SECOND

    def take(self) -> None:
        chunk = next(self._audio, None)
        if chunk is None:
            self.ended = True
        else:
            self.bytes += len(chunk)
            self.chunks += 1

    def until(self, wait: Wait) -> None:
        """Take as much as the step waits for, at most until the end of the input."""
        for_ever = wait == Wait()
        while not self.ended and (
            for_ever or wait.eos or self.bytes < (wait.audio or 0) or self.chunks < (wait.messages or 0)
        ):
            self.take()


def _echo(step: Echo, heard: _Heard) -> Iterator[str]:
    for number in count(1) if step.messages is None else range(1, step.messages + 1):
        heard.until(Wait(messages=number))
        if heard.chunks < number:
            return
        yield partial("chunk", str(number), end_ts=heard.seconds).text
