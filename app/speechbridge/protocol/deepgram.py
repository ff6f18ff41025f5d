"""Deepgram's live API: reading a request and a client's messages, writing the service's. Pure.

A client sends audio as binary messages, and JSON objects with a `type`: KeepAlive, Finalize, CloseStream. The service
sends Results, and on request SpeechStarted and UtteranceEnd; Metadata is its last message.

Unknown parameters of a request are ignored, as Deepgram does. Known parameters that would change the results, but are
not supported, are refused by name. Sources: Deepgram's streaming reference and its Python SDK, versions 3.11 to 7.17.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.close import CloseCode, fit_reason
from speechbridge.protocol.messages import Final
from speechbridge.protocol.query import MOST, count, parameters
from speechbridge.protocol.request import BadRequest, ContentType, StreamRequest
from speechbridge.protocol.tokens import Token, tokens_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.protocol.close import Close
    from speechbridge.protocol.messages import Element, Hypothesis
    from speechbridge.protocol.request import Option

LISTEN = "/v1/listen"  # the path

KEEP_ALIVE, FINALIZE, CLOSE_STREAM, CONFIGURE = "KeepAlive", "Finalize", "CloseStream", "Configure"
MESSAGE = 2**14  # characters that a message without audio may have

SAMPLES = {"linear16": "S16LE", "linear32": "F32LE", "mulaw": "MULAW", "alaw": "ALAW"}
CONTAINERS = {"ogg-opus": "audio/ogg", "opus": "audio/ogg", "flac": "audio/flac"}
REFUSED = {
    "alternatives": "1",
    "callback": "",
    "detect_entities": "false",
    "detect_language": "false",
    "diarize": "false",
    "diarize_model": "",
    "multichannel": "false",
    "redact": "false",
    "replace": "",
    "search": "",
}
"""Parameters that are not supported, each with the value that has no effect."""

MARKS = '.,;:!?\u2026\u00bf\u00a1"()'  # punctuation around a word


@dataclass(frozen=True, slots=True)
class Listening:
    """A client's request."""

    content_type: ContentType
    options: Mapping[str, Option] = field(default_factory=dict)
    interim_results: bool = False
    is_punctuated: bool = False
    endpointing: bool = True
    vad_events: bool = False
    utterance_end: float = 0.0  # seconds without a word after which UtteranceEnd is sent; 0: never
    model: str = ""

    @property
    def bytes_per_second(self) -> int:
        """Bytes in one second of samples; 0 for a container."""
        sizes = {"S16LE": 2, "F32LE": 4, "MULAW": 1, "ALAW": 1}
        kind = self.content_type
        return sizes[kind.format] * (kind.rate or 0) * (kind.channels or 0) if kind.format else 0

    @classmethod
    def parse(cls, query: str) -> Listening:
        """Read a URL's query. Raises BadRequest, whose text names what is wrong."""
        if count(query) > MOST:
            raise BadRequest(f"the query has more than {MOST} parameters")
        given = parameters(query)
        for name, nothing in REFUSED.items():
            if given.get(name, nothing).lower() != nothing:
                raise _wrong(f"{name} is not supported here: leave it out")
        utterance_end = given.get("utterance_end_ms", "false").lower()
        endpointing = given.get("endpointing", "true").lower()
        options: dict[str, Option] = {}
        if given.get("language"):
            options["language"] = given["language"][:40]
        if _flag(given, "profanity_filter"):
            options["filter_profanity"] = True
        if _flag(given, "interim_results"):
            options["detailed_partials"] = True
        return cls(
            _content_type(given),
            options,
            _flag(given, "interim_results"),
            _flag(given, "punctuate") or _flag(given, "smart_format"),
            endpointing not in ("false", "0"),
            _flag(given, "vad_events"),
            _milliseconds(utterance_end) if utterance_end not in ("false", "0") else 0.0,
            given.get("model", "")[:80],
        )

    def request(self, start_ts: float) -> StreamRequest:
        """Return the request for a session."""
        return StreamRequest(self.content_type, {**self.options, **({"start_ts": start_ts} if start_ts else {})})


def _wrong(text: str) -> BadRequest:
    return BadRequest(fit_reason(text))


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in ("true", "false"):
        raise _wrong(f"{name}={value[:40]!r}: send true or false")
    return value == "true"


def _milliseconds(value: str) -> float:
    if not (value.isascii() and value.isdigit() and len(value) < 8 and int(value) >= 1000):
        raise _wrong(f"utterance_end_ms={value[:40]!r}: send 1000 or more")
    return int(value) / 1000


def _whole(given: Mapping[str, str], name: str, otherwise: str, allowed: range) -> int:
    value = given.get(name, otherwise)
    if not (value.isascii() and value.isdigit() and len(value) < 8 and int(value) in allowed):
        raise _wrong(f"{name}={value[:40]!r}: send a whole number from {allowed.start} to {allowed.stop - 1}")
    return int(value)


def _content_type(given: Mapping[str, str]) -> ContentType:
    encoding = given.get("encoding", "").lower()
    if not encoding:
        return ContentType.undeclared()
    if encoding in CONTAINERS:
        return ContentType.parse(CONTAINERS[encoding])
    if encoding not in SAMPLES:
        raise _wrong(f"encoding={encoding[:20]!r} is not supported here: send {', '.join([*SAMPLES, *CONTAINERS])}")
    if encoding.startswith("linear") and "sample_rate" not in given:
        raise _wrong(f"sample_rate is missing: encoding={encoding} needs one")
    rate = _whole(given, "sample_rate", "8000", ContentType.RATES)
    channels = _whole(given, "channels", "1", ContentType.CHANNELS)
    if encoding == "linear16":  # clients also send WAV files with this encoding: they are detected by their first bytes
        return ContentType.undeclared(ContentType.raw(rate, channels))
    if encoding == "linear32":
        return ContentType(ContentType.RAW, "interleaved", rate, "F32LE", channels)
    return ContentType.parse(f"audio/{encoding};rate={rate};channels={channels}")


class WrongMessage(Exception):
    """A message that cannot be processed. The text is for the client."""


def read(text: str) -> str:
    """Return the type of a client's message. Raises WrongMessage."""
    if len(text) > MESSAGE:
        raise WrongMessage(f"a message that is not audio may have {MESSAGE} characters; send audio as binary messages")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise WrongMessage("the message is not JSON; send audio as binary messages") from None
    kind = message.get("type") if isinstance(message, dict) else None
    if kind not in (KEEP_ALIVE, FINALIZE, CLOSE_STREAM, CONFIGURE):
        raise WrongMessage(f"unknown type of message: send {KEEP_ALIVE}, {FINALIZE} or {CLOSE_STREAM}")
    return str(kind)


# ---- the service's messages ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Results:
    """Makes the service's messages for one connection. `request_id` appears in most of them."""

    asked: Listening
    request_id: str
    _in_speech: bool = False  # a partial has come since the last final
    _last_word: float | None = None  # when the last word ended, in seconds; None if UtteranceEnd is not to be sent

    def messages_for(self, result: Hypothesis, *, from_finalize: bool = False) -> list[dict[str, Any]]:
        """Return the messages for a partial or a final. A final without words has one only if it answers a Finalize."""
        events: list[dict[str, Any]] = []
        is_final = isinstance(result, Final)
        if result.words and not self._in_speech and self.asked.vad_events:
            events.append({"type": "SpeechStarted", "channel": [0, 1], "timestamp": _rounded(result.ts)})
        self._in_speech = bool(result.words) and not is_final
        if result.words:
            self._last_word = result.end_ts if is_final else None
        if from_finalize or (result.words and (is_final or self.asked.interim_results)):
            events.append(self._results(result, is_final=is_final, from_finalize=from_finalize))
        return events

    def empty(self, now: float) -> dict[str, Any]:
        """Return the Results that answer a Finalize when there is no more result to send."""
        return self._results(Final(now, now), is_final=True, from_finalize=True)

    def utterance_end(self, now: float) -> list[dict[str, Any]]:
        """Return UtteranceEnd, if it is due at the time `now` of the audio, in seconds."""
        last, gap = self._last_word, self.asked.utterance_end
        if not gap or self._in_speech or last is None or now < last + gap:
            return []
        self._last_word = None
        return [{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": _rounded(last)}]

    def metadata(self, duration: float, created: str, sha256: str) -> dict[str, Any]:
        """Return the last message. `created` is a time in ISO 8601, `sha256` the hash of the audio."""
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self.request_id,
            "sha256": sha256,
            "created": created,
            "duration": _rounded(duration),
            "channels": 1,
            "models": [self.request_id],
            "model_info": {self.request_id: self._model()},
        }

    def _results(self, result: Hypothesis, *, is_final: bool, from_finalize: bool) -> dict[str, Any]:
        tokens = (
            tokens_of(result)
            if isinstance(result, Final)
            else [Token(word.value, word.confidence) for word in result.words]
        )
        words = [self._word(word, token, result) for word, token in zip(result.words, tokens, strict=True)]
        name = "punctuated_word" if self.asked.is_punctuated else "word"
        start = min([result.ts, *(word["start"] for word in words)])
        end = max([result.end_ts, start, *(word["end"] for word in words)])
        transcript = {
            "transcript": " ".join(word[name] for word in words),
            "confidence": _rounded(sum(word["confidence"] for word in words) / len(words) if words else 0.0),
            "words": words,
        }
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "start": _rounded(start),
            "duration": _rounded(end - start),
            "is_final": is_final,
            "speech_final": is_final and self.asked.endpointing and bool(words) and not from_finalize,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [transcript]},
            "metadata": {"request_id": self.request_id, "model_info": self._model(), "model_uuid": self.request_id},
        }

    def _word(self, word: Element, token: Token, result: Hypothesis) -> dict[str, Any]:
        start = result.ts if word.ts is None else word.ts
        shown = {
            "word": word.value.strip(MARKS).lower() or word.value,
            "start": _rounded(start),
            "end": _rounded(max(start, result.end_ts if word.end_ts is None else word.end_ts)),
            "confidence": _rounded(1.0 if word.confidence is None else word.confidence),
        }
        return shown | ({"punctuated_word": token.text.strip()} if self.asked.is_punctuated else {})

    def _model(self) -> dict[str, str]:
        return {"name": self.asked.model or "speechbridge", "version": "latest", "arch": "speechbridge"}


def _rounded(value: float) -> float:
    return round(value, 3)


def wrong(text: str) -> dict[str, Any]:
    """Return an Error: the answer to a wrong message, or the last message before the connection is closed."""
    return {"type": "Error", "variant": "SCHEMA", "description": text, "message": text}


def configure_failure(request_id: str) -> dict[str, Any]:
    """Return the answer to Configure."""
    return {
        "type": "ConfigureFailure",
        "request_id": request_id,
        "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
        "description": "nothing can be configured here while a stream runs",
    }


STATUSES: Mapping[int, tuple[int, str]] = {
    CloseCode.UNAUTHORIZED: (401, "INVALID_AUTH"),
    CloseCode.BAD_REQUEST: (400, "Bad Request"),
    CloseCode.FOREIGN: (403, "FORBIDDEN"),
    CloseCode.NO_CREDITS: (402, "ASR_PAYMENT_REQUIRED"),
    CloseCode.TOO_MANY: (429, "TOO_MANY_REQUESTS"),
    CloseCode.CROWDED: (429, "TOO_MANY_REQUESTS"),
    CloseCode.TOO_OFTEN: (429, "TOO_MANY_REQUESTS"),
}
"""For each close code of a refusal, the HTTP status and `err_code`."""


def refusal(close: Close, request_id: str) -> tuple[int, dict[str, str], Mapping[str, str]]:
    """Return status, headers and body of the response to a refused handshake."""
    status, code = STATUSES.get(close.code, (503, "SERVICE_UNAVAILABLE"))
    error = "".join(mark if " " <= mark < "\x7f" else "?" for mark in close.reason)
    headers = {"dg-error": error, "dg-request-id": request_id}
    return status, headers, {"err_code": code, "err_msg": close.reason, "request_id": request_id}
