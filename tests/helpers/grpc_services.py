"""Google's and Riva's services, made from their own protos: real gRPC servers on real sockets, which break on purpose.

They hear the counter of `spoken`, and say which words were in it. Skips where the SDKs are not installed.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from speechbridge.audio import RATE, SAMPLE
from speechbridge.protocol.messages import Final, Partial, parse_message
from tests.helpers import spoken
from tests.helpers.breaking_upstream import Hearing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.breaking_upstream import Fault, Stream

grpc = pytest.importorskip("grpc", reason="gRPC is not installed: pip install '.[google,riva]'")

CUT_SECONDS = 0.03  # that are missing of a word: rounding takes less away
PIECE = 2**17  # samples
PREFIX = 24_000  # bytes that hold a word wherever they begin: enough to tell where in the counter they are
SECONDS = 30.0  # for which a connection that is stalled is kept; the client's abort comes before


@dataclass(frozen=True)
class Said:
    """A result: words with their times in seconds of the connection, and its end."""

    words: tuple[tuple[str, float, float], ...]
    end: float
    is_final: bool

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


class Dialect(Protocol):
    """How one service names all that."""

    service: str

    def read(self, data: bytes) -> tuple[Any, bytes]: ...

    def write(self, said: Said) -> bytes: ...


class _Google:
    """What both versions of Google's protocol have in common. They name the same times differently."""

    word_times: tuple[str, str]
    result_end: str

    def __init__(self, version: str) -> None:
        name = f"google.cloud.speech_{version}"
        self._types = pytest.importorskip(name, reason="google-cloud-speech is not installed")

    def write(self, said: Said) -> bytes:
        types, (begins, ends) = self._types, self.word_times
        words = [
            types.WordInfo(word=word, confidence=0.9, **{begins: _duration(start), ends: _duration(end)})
            for word, start, end in said.words
            if said.is_final
        ]
        best = types.SpeechRecognitionAlternative(transcript=said.text, confidence=0.9, words=words)
        result = types.StreamingRecognitionResult(
            alternatives=[best], is_final=said.is_final, **{self.result_end: _duration(said.end)}
        )
        response = types.StreamingRecognizeResponse(results=[result])
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
        pytest.importorskip("riva.client", reason="nvidia-riva-client is not installed")
        self._types = pytest.importorskip("riva.client.proto.riva_asr_pb2")

    def read(self, data: bytes) -> tuple[Any, bytes]:
        request = self._types.StreamingRecognizeRequest.FromString(data)
        return (request.streaming_config if request.HasField("streaming_config") else None), request.audio_content

    def write(self, said: Said) -> bytes:
        types = self._types
        words = [
            types.WordInfo(word=word, start_time=round(start * 1000), end_time=round(end * 1000), confidence=0.9)
            for word, start, end in said.words
            if said.is_final
        ]
        best = types.SpeechRecognitionAlternative(transcript=said.text, words=words)
        result = types.StreamingRecognitionResult(
            alternatives=[best], is_final=said.is_final, audio_processed=0.0 if said.is_final else said.end
        )
        return bytes(types.StreamingRecognizeResponse(results=[result]).SerializeToString())


DIALECTS: dict[str, Callable[[], Dialect]] = {"google v1": GoogleV1, "google v2": GoogleV2, "riva": Riva}


def settings_for(name: str, address: str, **more: object) -> dict[str, Any]:
    """Return the settings of a service that uses the one of this name at host:port."""
    if name == "riva":
        return {"engine": "riva", "riva_url": f"http://{address}", **more}
    version = name.removeprefix("google ")
    where = {"google_version": version, "google_project": "p", "google_endpoint": f"http://{address}"}
    return {"engine": "google", **where, **more}


def _duration(seconds: float) -> dict[str, int]:
    whole = int(seconds)
    return {"seconds": whole, "nanos": round((seconds - whole) * 1e9)}


@dataclass
class Call:
    """One call as a handler sees it: its configuration and metadata, its audio, and how to answer it."""

    dialect: Dialect
    config: Any
    context: Any
    requests: Iterator[bytes]
    ended: threading.Event = field(default_factory=threading.Event)  # by its client, or by its connection's end

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.context.invocation_metadata())

    def audio(self) -> Iterator[bytes]:
        for data in self.requests:
            yield self.dialect.read(data)[1]

    def stall(self) -> None:
        """Do nothing, until the client hangs up."""
        if not self.ended.wait(SECONDS):
            self.context.abort(grpc.StatusCode.UNAVAILABLE, "stalled for too long")


@contextmanager
def serving(dialect: Dialect, handle: Callable[[Call], Iterator[Said]], port: int = 0) -> Iterator[str]:
    """Serve on a free port of loopback; yield host:port."""

    def converse(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        config, _ = dialect.read(next(requests))
        call = Call(dialect, config, context, requests)
        context.add_callback(call.ended.set)
        for said in handle(call):
            yield dialect.write(said)

    handler = grpc.stream_stream_rpc_method_handler(converse)
    executor = ThreadPoolExecutor(64, thread_name_prefix="fake")
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


class Counting:
    """A handler that hears words, and breaks as the faults of each stream say. A stream is known by its vocabulary."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        self._streams = streams
        # Made once, and in pieces: ten minutes at once take half a gigabyte to make.
        longest = max(stream.length for stream in streams.values())
        self._whole = b"".join(spoken.audio(begin, min(begin + PIECE, longest)) for begin in range(0, longest, PIECE))
        self._lock = threading.Lock()
        self.cut: set[int] = set()  # words of which a connection was given a part, and of which it said a final

    def __call__(self, call: Call) -> Iterator[Said]:
        stream = self._streams[_name(call.config)]
        with self._lock:
            fault, number = next(stream.faults), len(stream.given)
            stream.open += 1
            stream.most_open = max(stream.most_open, stream.open)
        try:
            yield from self._hear(call, stream, fault, number)
        finally:
            with self._lock:
                stream.open -= 1

    def _hear(self, call: Call, stream: Stream, fault: Fault | None, number: int) -> Iterator[Said]:
        if fault is not None and fault.kind == "stall from byte 0":
            stream.breaks_now(fault.kind, number - 1)
            call.stall()
            return
        audio = call.audio()
        first = _first(audio)
        if not first:
            return
        hearing = Hearing(stream, number, _place(first, self._whole))
        hearing.hear(first)
        while fault is None or not self._breaks_now(fault, hearing):
            yield from self._said(hearing)
            chunk = next(audio, b"")
            if chunk:
                hearing.hear(chunk)
                continue
            if fault is not None and fault.breaks_at_eos(is_ended=stream.is_ended) and call.context.is_active():
                break
            yield from self._said(hearing, last=True)
            return
        if fault.answers_first:
            yield from self._said(hearing)
        stream.breaks_now(fault.kind, number)
        self._break(call, fault)

    def _said(self, hearing: Hearing, *, last: bool = False) -> Iterator[Said]:
        """Say what there is to say, in times of the connection."""
        begin = hearing.start / RATE
        for text in hearing.say(last=last):
            message = parse_message(text)
            assert isinstance(message, Partial | Final)
            words = tuple((e.value, (e.ts or 0.0) - begin, (e.end_ts or 0.0) - begin) for e in message.elements)
            is_final = isinstance(message, Final)
            for element in message.elements if is_final else ():
                number = int(element.value.partition("@")[0])
                truth = [place / RATE for place in spoken.word(number)]
                if abs((element.ts or 0.0) - truth[0]) + abs((element.end_ts or 0.0) - truth[1]) > CUT_SECONDS:
                    self.cut.add(number)
            yield Said(words, message.end_ts - begin, is_final)

    def _breaks_now(self, fault: Fault, hearing: Hearing) -> bool:
        return hearing.seconds >= fault.after and not (fault.kind == "early OK" and hearing._stream.is_ended)

    def _break(self, call: Call, fault: Fault) -> None:
        match fault.kind:
            case "limit":
                call.context.abort(grpc.StatusCode.OUT_OF_RANGE, "Exceeded maximum allowed stream duration")
            case "aborted":
                call.context.abort(grpc.StatusCode.ABORTED, "Max duration of 5 minutes reached for stream")
            case "unavailable":
                call.context.abort(grpc.StatusCode.UNAVAILABLE, "the service is restarting")
            case "internal":
                call.context.abort(grpc.StatusCode.INTERNAL, "internal error")
            case "stalls" | "mute after end":
                call.stall()
            case "early OK":
                return
            case _:
                raise ValueError(fault.kind)


FAULTS = ("limit", "aborted", "unavailable", "internal", "stall from byte 0", "stalls", "mute after end", "early OK")


def _first(audio: Iterator[bytes]) -> bytes:
    """Return the first seconds, or all if there is less."""
    first = b""
    for chunk in audio:
        first += chunk
        if len(first) >= PREFIX:
            break
    return first


def _place(pcm: bytes, whole: bytes) -> int:
    """Return the position at which a piece of the counter begins, in samples. A piece of a pause is its last one."""
    at = whole.rfind(pcm[: len(pcm) // SAMPLE * SAMPLE])
    while at % SAMPLE and at >= 0:
        at = whole.rfind(pcm[: len(pcm) // SAMPLE * SAMPLE], 0, at + len(pcm) // SAMPLE * SAMPLE - 1)
    assert at >= 0, "this is no piece of the counter"
    return at // SAMPLE


def _name(config: Any) -> str:
    """Return the only phrase of the vocabulary."""
    inner = config.streaming_config.config if hasattr(config, "recognizer") else config.config
    if hasattr(config, "recognizer"):
        return str(inner.adaptation.phrase_sets[0].inline_phrase_set.phrases[0].value)
    return str(inner.speech_contexts[0].phrases[0])
