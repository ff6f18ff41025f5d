"""The fakes of Google's and Riva's services, and handlers for them that break on purpose.

The handlers recognize the synthetic speech of `spoken`. Tests are skipped if the SDKs are not installed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.audio import RATE, SAMPLE
from speechbridge.protocol.messages import Final, Partial, parse_message
from tests.helpers import spoken
from tests.helpers.breaking_upstream import Recognition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.breaking_upstream import Fault, Stream

grpc = pytest.importorskip("grpc", reason="gRPC is not installed: pip install '.[google,riva]'")

from speechbridge.testing import grpc_services  # noqa: E402 # it needs gRPC
from speechbridge.testing.grpc_services import Call, GoogleV1, SpeechResult, serving  # noqa: E402 # likewise

__all__ = [
    "DIALECTS",
    "FAULTS",
    "Call",
    "Counting",
    "GoogleV1",
    "SpeechResult",
    "grpc",
    "name_of",
    "serving",
    "settings_for",
]

PIECE = 2**17  # samples
PREFIX = 24_000  # bytes that contain a word wherever they begin: enough to find their position


def _installed(name: str) -> Callable[[], grpc_services.Dialect]:
    def made() -> grpc_services.Dialect:
        try:
            return grpc_services.DIALECTS[name]()
        except ImportError as error:
            pytest.skip(f"the SDK of {name} is not installed: {error}")

    return made


DIALECTS = {name: _installed(name) for name in grpc_services.DIALECTS}


def settings_for(name: str, address: str, **more: object) -> dict[str, Any]:
    """Return the settings for the service of this name at host:port."""
    if name == "riva":
        return {"engine": "riva", "riva_url": f"http://{address}", **more}
    version = name.removeprefix("google ")
    where = {"google_version": version, "google_project": "p", "google_endpoint": f"http://{address}"}
    return {"engine": "google", **where, **more}


class Counting:
    """A handler that recognizes words, and breaks with each stream's faults. The vocabulary identifies a stream."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        self._streams = streams
        # Made once, and in pieces: making ten minutes at once needs half a gigabyte.
        longest = max(stream.length for stream in streams.values())
        self._whole = b"".join(spoken.audio(begin, min(begin + PIECE, longest)) for begin in range(0, longest, PIECE))
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Iterator[SpeechResult]:
        stream = self._streams[name_of(call.config)]
        with self._lock:
            fault, number = next(stream.faults), len(stream.given)
            stream.open += 1
            stream.most_open = max(stream.most_open, stream.open)
        try:
            yield from self._recognize(call, stream, fault, number)
        finally:
            with self._lock:
                stream.open -= 1

    def _recognize(self, call: Call, stream: Stream, fault: Fault | None, number: int) -> Iterator[SpeechResult]:
        if fault is not None and fault.kind == "stall from byte 0":
            stream.note_break(fault.kind, number - 1)
            call.stall()
            return
        audio = call.audio()
        first = _first(audio)
        if not first:
            return
        recognition = Recognition(stream, number, _place(first, self._whole))
        recognition.receive(first)
        while fault is None or not self._breaks_now(fault, recognition):
            yield from self._results(recognition)
            chunk = next(audio, b"")
            if chunk:
                recognition.receive(chunk)
                continue
            if fault is not None and fault.breaks_at_eos(is_ended=stream.is_ended) and call.context.is_active():
                break
            if call.context.is_active():  # otherwise the client has cancelled the call
                yield from self._results(recognition, last=True)
            return
        if fault.answers_first:
            yield from self._results(recognition)
        stream.note_break(fault.kind, number)
        self._break(call, fault)

    def _results(self, recognition: Recognition, *, last: bool = False) -> Iterator[SpeechResult]:
        """Yield the results that are due, with times of the connection."""
        begin = recognition.start / RATE
        for text in recognition.answers(last=last):
            message = parse_message(text)
            assert isinstance(message, Partial | Final)
            words = tuple((e.value, (e.ts or 0.0) - begin, (e.end_ts or 0.0) - begin) for e in message.elements)
            is_final = isinstance(message, Final)
            yield SpeechResult(words, message.end_ts - begin, is_final)

    def _breaks_now(self, fault: Fault, recognition: Recognition) -> bool:
        return recognition.seconds >= fault.after and not (fault.kind == "early OK" and recognition._stream.is_ended)

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
    """Return the first PREFIX bytes, or all if there are fewer."""
    first = b""
    for chunk in audio:
        first += chunk
        if len(first) >= PREFIX:
            break
    return first


def _place(pcm: bytes, whole: bytes) -> int:
    """Return the position of a piece of the speech, in samples; the last one, if there are several."""
    at = whole.rfind(pcm[: len(pcm) // SAMPLE * SAMPLE])
    while at % SAMPLE and at >= 0:
        at = whole.rfind(pcm[: len(pcm) // SAMPLE * SAMPLE], 0, at + len(pcm) // SAMPLE * SAMPLE - 1)
    assert at >= 0, "this is not a piece of the speech"
    return at // SAMPLE


def name_of(config: Any) -> str:
    """Return the only phrase of the vocabulary."""
    inner = config.streaming_config.config if hasattr(config, "recognizer") else config.config
    if hasattr(config, "recognizer"):
        return str(inner.adaptation.phrase_sets[0].inline_phrase_set.phrases[0].value)
    return str(inner.speech_contexts[0].phrases[0])
