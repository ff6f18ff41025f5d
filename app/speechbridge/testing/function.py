"""A script of the scripted recognizer as a start function: without a server, a socket or a thread.

This is the shortest way to a speech SDK with prepared answers, for tests and demonstrations. It passes the same
contract tests as Rev.ai's SDK with a server that plays the same script.
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
    return lambda audio: _play(script, _Input(audio), 0.0)


def scripted_engine(*scripts: Script) -> Engine:
    """Make an engine that plays one script per connection; further connections get the last script.

    Its streams are resumable. An abort wakes a script that waits for ever, or has stopped reading.
    """
    numbers = count()

    def open_stream(request: StreamRequest) -> Upstream:
        script = scripts[min(next(numbers), len(scripts) - 1)] if scripts else NORMAL
        aborted = threading.Event()
        return Upstream(lambda audio: _play(script, _Input(audio, aborted), start_of(request)), aborted.set, b"".join)

    return Engine("scripted", open_stream, settled=settled_by_final)


def _play(script: Script, received: _Input, begin: float) -> Iterator[str]:
    for step in script:
        match step:
            case Say() if not step.binary:
                yield step.text
            case Wait():
                received.until(step)
            case StopReading():
                received.stop_reading()
            case Echo():
                yield from _echo(step, received, begin)
            case Total():
                yield final(f"{received.bytes}", "bytes", ts=begin, end_ts=begin + received.seconds).text
            case Drop():
                raise UpstreamClosed(Close(CloseCode.ABNORMAL))
            case End():
                close = Close(CloseCode.NO_CODE if step.code is None else step.code, step.reason)
                if not close.is_success(eos_sent=received.ended):
                    raise UpstreamClosed(close)
                return


class _Input:
    """The audio, and how much of it was taken so far. Without `aborted`, waits for ever end with the audio."""

    def __init__(self, audio: Iterator[bytes], aborted: threading.Event | None = None) -> None:
        self._audio = audio
        self._aborted = aborted
        self.bytes = 0
        self.chunks = 0
        self.ended = False
        self.has_stopped = False

    @property
    def seconds(self) -> float:
        return self.bytes / BYTES_PER_SECOND

    def stop_reading(self) -> None:
        """Block after the next chunk, until an abort. Skipped if there is no `aborted`."""
        self.has_stopped = self._aborted is not None

    def take(self) -> None:
        chunk = next(self._audio, None)
        if chunk is None:
            self.ended = True
        else:
            self.bytes += len(chunk)
            self.chunks += 1

    def until(self, wait: Wait) -> None:
        """Take audio until the step's condition is met or the input ends; or wait until an abort."""
        for_ever = wait == Wait() or self.has_stopped
        if self.has_stopped:
            self.take()
        while not (self.ended or self.has_stopped) and (
            for_ever or wait.eos or self.bytes < (wait.audio or 0) or self.chunks < (wait.messages or 0)
        ):
            self.take()
        if self._aborted is not None and for_ever:
            self._aborted.wait()
        if self._aborted is not None and self._aborted.is_set():
            raise UpstreamClosed(Close(CloseCode.ABNORMAL))


def _echo(step: Echo, received: _Input, begin: float) -> Iterator[str]:
    for number in count(1) if step.messages is None else range(1, step.messages + 1):
        received.until(Wait(messages=number))
        if received.chunks < number:
            return
        yield partial("chunk", str(number), ts=begin, end_ts=begin + received.seconds).text
