"""A script of the scripted recognizer as a start function: no server, no socket, no thread of its own.

This is the shortest way to a speech SDK with the answers that you want, for tests and demonstrations. It passes the
same contract tests as Rev.ai's SDK with a server that plays the same script.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING

from speechbridge.engines import Engine, Upstream, UpstreamClosed
from speechbridge.engines.options import start_of
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.testing.script import (
    BYTES_PER_SECOND,
    NORMAL,
    Drop,
    Echo,
    End,
    Say,
    StopReading,
    Total,
    Wait,
    final,
    partial,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.protocol.request import StreamRequest
    from speechbridge.testing.script import Script


def scripted(script: Script = NORMAL) -> Callable[[Iterator[bytes]], Iterator[str]]:
    """Make a start function of a script. Steps that need a connection are skipped."""
    return lambda audio: _play(script, _Heard(audio), 0.0)


def scripted_engine(*scripts: Script) -> Engine:
    """Make an engine that plays a script with each connection: all further ones get the last script.

    Its streams are resumed. What waits for ever, or has stopped reading, is woken by an abort.
    """
    numbers = count()

    def open_stream(request: StreamRequest) -> Upstream:
        script = scripts[min(next(numbers), len(scripts) - 1)] if scripts else NORMAL
        aborted = threading.Event()
        return Upstream(lambda audio: _play(script, _Heard(audio, aborted), start_of(request)), aborted.set, b"".join)

    return Engine("scripted", open_stream, settled=settled_by_final)


def _play(script: Script, heard: _Heard, begin: float) -> Iterator[str]:
    for step in script:
        match step:
            case Say() if not step.binary:
                yield step.text
            case Wait():
                heard.until(step)
            case StopReading():
                heard.stop_reading()
            case Echo():
                yield from _echo(step, heard, begin)
            case Total():
                yield final(f"{heard.bytes}", "bytes", ts=begin, end_ts=begin + heard.seconds).text
            case Drop():
                raise UpstreamClosed(Close(CloseCode.ABNORMAL))
            case End():
                close = Close(CloseCode.NO_CODE if step.code is None else step.code, step.reason)
                if not close.is_success(eos_sent=heard.ended):
                    raise UpstreamClosed(close)
                return


class _Heard:
    """The audio that was taken from the feed so far. Without `aborted` nothing waits any longer than that lasts."""

    def __init__(self, audio: Iterator[bytes], aborted: threading.Event | None = None) -> None:
        self._audio = audio
        self._aborted = aborted
        self.bytes = 0
        self.chunks = 0
        self.ended = False
        self.is_deaf = False

    @property
    def seconds(self) -> float:
        return self.bytes / BYTES_PER_SECOND

    def stop_reading(self) -> None:
        """Be blocked with the next chunk, until an abort. Without one this is skipped."""
        self.is_deaf = self._aborted is not None

    def take(self) -> None:
        chunk = next(self._audio, None)
        if chunk is None:
            self.ended = True
        else:
            self.bytes += len(chunk)
            self.chunks += 1

    def until(self, wait: Wait) -> None:
        """Take as much as the step waits for, at most until the end of the input; or wait for ever, until an abort."""
        for_ever = wait == Wait() or self.is_deaf
        if self.is_deaf:
            self.take()
        while not (self.ended or self.is_deaf) and (
            for_ever or wait.eos or self.bytes < (wait.audio or 0) or self.chunks < (wait.messages or 0)
        ):
            self.take()
        if self._aborted is not None and for_ever:
            self._aborted.wait()
        if self._aborted is not None and self._aborted.is_set():
            raise UpstreamClosed(Close(CloseCode.ABNORMAL))


def _echo(step: Echo, heard: _Heard, begin: float) -> Iterator[str]:
    for number in count(1) if step.messages is None else range(1, step.messages + 1):
        heard.until(Wait(messages=number))
        if heard.chunks < number:
            return
        yield partial("chunk", str(number), ts=begin, end_ts=begin + heard.seconds).text
