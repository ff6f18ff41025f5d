"""Fakes of Google's and Riva's services, from their own protos: real gRPC servers on real sockets, for tests.

    def handle(call: Call) -> Iterator[SpeechResult]:
        for chunk in call.audio():
            yield SpeechResult((("word", 0.0, 0.1),), 0.1, is_final=False)

    with serving(DIALECTS["google v2"](), handle) as address:
        ...  # SPEECHBRIDGE_GOOGLE_ENDPOINT=http://{address}

A handler runs in a thread of its own for each call. It fails with `call.context.abort(status, details)`, stops
answering with `call.stall()`, and ends normally by returning. Each service needs its SDK to be installed.

    python -m speechbridge.testing.grpc_services "google v2"

serves one that answers each 100 ms of audio, until its stdin ends.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATE = 32_000  # bytes per second of 16 kHz mono S16LE
ANSWERED = 3200  # bytes for each answer of `answering`
CALLS = 2000  # at once, in a load test

SECONDS = 30.0  # longest stall; the client aborts before


@dataclass(frozen=True)
class SpeechResult:
    """A partial or final result: words with their times in seconds of the connection, and the end of the result."""

    words: tuple[tuple[str, float, float], ...]
    end: float
    is_final: bool

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


class Dialect(Protocol):
    """The messages of one service."""

    service: str

    def read(self, data: bytes) -> tuple[Any, bytes]:
        """Parse a request: its configuration, None if it has none; and its audio."""

    def write(self, result: SpeechResult) -> bytes:
        """Return the response with a result."""


class _Google:
    """The common part of both versions of Google's protocol. They have different names for the same times."""

    word_times: tuple[str, str]
    result_end: str

    def __init__(self, version: str) -> None:
        self._types = import_module(f"google.cloud.speech_{version}")

    def write(self, result: SpeechResult) -> bytes:
        types, (begins, ends) = self._types, self.word_times
        words = [
            types.WordInfo(word=word, confidence=0.9, **{begins: _duration(start), ends: _duration(end)})
            for word, start, end in result.words
            if result.is_final
        ]
        best = types.SpeechRecognitionAlternative(transcript=result.text, confidence=0.9, words=words)
        written = types.StreamingRecognitionResult(
            alternatives=[best], is_final=result.is_final, **{self.result_end: _duration(result.end)}
        )
        response = types.StreamingRecognizeResponse(results=[written])
        return bytes(types.StreamingRecognizeResponse.serialize(response))


class GoogleV1(_Google):
    service = "google.cloud.speech.v1.Speech"
    word_times, result_end = ("start_time", "end_time"), "result_end_time"

    def __init__(self) -> None:
        super().__init__("v1")

    def read(self, data: bytes) -> tuple[Any, bytes]:
        request = self._types.StreamingRecognizeRequest.deserialize(data)
        return (request.streaming_config if "streaming_config" in request else None), request.audio_content


class GoogleV2(_Google):
    service = "google.cloud.speech.v2.Speech"
    word_times, result_end = ("start_offset", "end_offset"), "result_end_offset"

    def __init__(self) -> None:
        super().__init__("v2")

    def read(self, data: bytes) -> tuple[Any, bytes]:
        request = self._types.StreamingRecognizeRequest.deserialize(data)
        return (request if "streaming_config" in request else None), request.audio


class Riva:
    service = "nvidia.riva.asr.RivaSpeechRecognition"

    def __init__(self) -> None:
        import_module("riva.client")  # puts its own protos on the path
        self._types = import_module("riva.client.proto.riva_asr_pb2")

    def read(self, data: bytes) -> tuple[Any, bytes]:
        request = self._types.StreamingRecognizeRequest.FromString(data)
        return (request.streaming_config if request.HasField("streaming_config") else None), request.audio_content

    def write(self, result: SpeechResult) -> bytes:
        types = self._types
        words = [
            types.WordInfo(word=word, start_time=round(start * 1000), end_time=round(end * 1000), confidence=0.9)
            for word, start, end in result.words
            if result.is_final
        ]
        best = types.SpeechRecognitionAlternative(transcript=result.text, words=words)
        written = types.StreamingRecognitionResult(
            alternatives=[best], is_final=result.is_final, audio_processed=0.0 if result.is_final else result.end
        )
        return bytes(types.StreamingRecognizeResponse(results=[written]).SerializeToString())


DIALECTS: dict[str, Callable[[], Dialect]] = {"google v1": GoogleV1, "google v2": GoogleV2, "riva": Riva}


def _duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"seconds": whole, "nanos": round((seconds - whole) * 1e9)}


@dataclass
class Call:
    """One call, as its handler sees it: configuration, metadata and audio."""

    dialect: Dialect
    config: Any
    context: Any
    requests: Iterator[bytes]
    ended: threading.Event = field(default_factory=threading.Event)  # the client cancelled it, or has disconnected

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.context.invocation_metadata())

    def audio(self) -> Iterator[bytes]:
        for data in self.requests:
            yield self.dialect.read(data)[1]

    def stall(self) -> None:
        """Do nothing until the client ends the call."""
        if not self.ended.wait(SECONDS):
            self.context.abort(grpc.StatusCode.UNAVAILABLE, "stalled for too long")


@contextmanager
def serving(
    dialect: Dialect, handle: Callable[[Call], Iterator[SpeechResult]], port: int = 0, *, calls: int = 64
) -> Iterator[str]:
    """Serve on a loopback port, by default a free one, with so many calls at once; yield host:port."""

    def converse(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        first = next(requests, None)
        if first is None:  # the client ended the call before it sent anything
            return
        config, _ = dialect.read(first)
        call = Call(dialect, config, context, requests)
        context.add_callback(call.ended.set)
        for result in handle(call):
            yield dialect.write(result)

    handler = grpc.stream_stream_rpc_method_handler(converse)
    executor = ThreadPoolExecutor(calls, thread_name_prefix="fake")
    server = grpc.server(executor)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(dialect.service, {"StreamingRecognize": handler}),)
    )
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        server.stop(0).wait()
        executor.shutdown()


def answering(call: Call) -> Iterator[SpeechResult]:
    """Answer each 100 ms of 16 kHz mono, and settle each second."""
    received = answered = 0
    for chunk in call.audio():
        received += len(chunk)
        while received - answered >= ANSWERED:
            answered += ANSWERED
            end = answered / RATE
            is_final = answered % RATE == 0
            yield SpeechResult((("please", end - 0.1, end),), end, is_final)
    if answered % RATE:
        yield SpeechResult((("please", answered / RATE - 0.1, answered / RATE),), answered / RATE, is_final=True)


def main() -> None:
    with serving(DIALECTS[sys.argv[1]](), answering, calls=CALLS) as address:
        print(f"listening on http://{address}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
