"""Rev.ai's SDK alone, a floor of the service's cost: two threads a session, no bridge, no event loop.

    python -m tests.bench.sdk JSON_OF_A_LOAD

The iterator that the SDK reads audio from makes it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from array import array
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING

from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.protocol.request import ContentType
from speechbridge.testing.load import WARM_UP, Load, Reading, cpu_seconds, reading, speech, state

if TYPE_CHECKING:
    from collections.abc import Iterator


SPARE = 0.5  # seconds of audio after the measured window, so that no thread ends within it


class Sessions:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._chunk = speech(load.chunk_bytes)
        self._connected = threading.Barrier(load.sessions + 1)
        self._opened = threading.Event()
        self._begun = self._window = 0.0
        self._answered = [0] * load.sessions
        self._lost = [0] * load.sessions
        self._trips = [array("d") for _ in range(load.sessions)]

    def measure(self) -> Reading:
        load = self._load
        if load.core is not None:
            os.sched_setaffinity(0, {load.core})
        threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(load.sessions)]
        for thread in threads:
            thread.start()
        self._connected.wait()
        self._begun = time.perf_counter()
        self._window = self._begun + WARM_UP
        self._opened.set()
        time.sleep(WARM_UP)
        answered, cpu, began = sum(self._answered), cpu_seconds(os.getpid()), time.perf_counter()
        time.sleep(load.seconds)
        count, resident = state(os.getpid())
        answered, cpu = sum(self._answered) - answered, cpu_seconds(os.getpid()) - cpu
        seconds = time.perf_counter() - began
        for thread in threads:
            thread.join()
        return reading(
            answered=answered,
            lost=sum(self._lost),
            cpu=cpu,
            seconds=seconds,
            trips=array("d", (trip for trips in self._trips for trip in trips)),
            threads=count,
            resident=resident,
            late=0.0,
        )

    def _run(self, number: int) -> None:
        sent: deque[float] = deque()
        client = RevAiStreamingClient(
            "none",
            MediaConfig(str(ContentType.raw())),
            url=self._load.urls[0],
            on_connected=lambda _id: None,
            on_close=lambda _code, _reason: None,
        )
        for _ in client.start(self._audio(number, sent), metadata=str(len(self._chunk))):
            if not sent:
                break  # the last final answers no chunk
            self._answered[number] += 1
            if (at := sent.popleft()) >= self._window:
                self._trips[number].append(time.perf_counter() - at)
        self._lost[number] = len(sent)

    def _audio(self, number: int, sent: deque[float]) -> Iterator[bytes]:
        self._connected.wait()
        self._opened.wait()
        load, period = self._load, self._load.chunk_ms / 1000
        due = self._begun + number / load.sessions * period
        while due < self._window + load.seconds + SPARE:
            time.sleep(max(0.0, due - time.perf_counter()))
            sent.append(time.perf_counter())
            yield self._chunk
            due += period


if __name__ == "__main__":
    print(json.dumps(asdict(Sessions(Load(**json.loads(sys.argv[1]))).measure())))
