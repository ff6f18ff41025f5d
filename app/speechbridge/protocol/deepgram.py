"""Deepgram's live protocol, as its SDKs speak it: the query, the client's messages, and ours. Pure.

A connection consists of a GET whose query carries all parameters, binary audio and JSON texts (`KeepAlive`,
`Finalize`, `CloseStream`) from the client, and `Results`, `SpeechStarted`, `UtteranceEnd`, `Error` and at last
`Metadata` from the server. What a parameter would need and no speech service of ours can do is refused by name.
Source: Deepgram's documentation of `/v1/listen`, and the types of its Python SDK, 7.17.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.messages import parse_object
from speechbridge.protocol.request import BadRequest, ContentType, StreamRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.protocol.close import Close
    from speechbridge.protocol.messages import Element, Hypothesis
    from speechbridge.protocol.request import Option

PATH = "/v1/listen"

# By Deepgram's name: ours for the samples, or the container.
SAMPLES = {"linear16": "S16LE", "linear32": "F32LE", "mulaw": "MULAW", "alaw": "ALAW"}
CONTAINERS = {"flac": "audio/x-flac", "ogg-opus": "audio/ogg", "opus": "audio/ogg"}

# What would change the words, or their way, in a manner that nobody here can. `false` is granted.
UNSUPPORTED = (
    *("callback", "callback_method", "detect_entities", "dictation", "multichannel", "numerals", "redact", "replace"),
    "search",
)

LONGEST = 1024  # characters of a client's text
LEAST_UTTERANCE_END = 1000  # ms: Deepgram's own bound
MODEL_UUID = "00000000-0000-0000-0000-000000000000"  # ours have none


class Command(StrEnum):
    """What a client may say beside audio."""

    KEEP_ALIVE = "KeepAlive"
    FINALIZE = "Finalize"
    CLOSE_STREAM = "CloseStream"


@dataclass(frozen=True, slots=True)
class Listen:
    """What a client asks for. Without `rate` the audio is in a container, or its first bytes tell."""

    content_type: ContentType
    options: Mapping[str, Option] = field(default_factory=dict)
    model: str = "general"
    channels: int = 1
    interim: bool = False
    endpointing: bool = True
    punctuate: bool = False
    vad_events: bool = False
    utterance_end: float | None = None  # seconds

    @classmethod
    def parse(cls, query: str) -> Listen:
        """Read a URL's query. Unknown parameters are ignored. Raises BadRequest, whose text names the parameter."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=200, errors="replace")
        except ValueError:
            raise BadRequest("the query has more than 200 parameters") from None
        every: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in pairs:
            every[name].append(value)
        given = {name: values[-1] for name, values in every.items()}
        for name in UNSUPPORTED:
            if given.get(name, "false") not in ("false", ""):
                raise BadRequest(f"{name} is not supported here: leave it out")
        if given.get("language") in ("multi", "detect"):
            raise BadRequest(f"language={given['language']} is not supported here: name one language")
        channels = _whole(given, "channels", 1, ContentType.CHANNELS)
        punctuate = _flag(given, "punctuate") or _flag(given, "smart_format")
        return cls(
            _content_type(given, channels),
            _options(given, every["keyterm"] + every["keywords"], punctuate=punctuate),
            given.get("model", "general"),
            channels,
            _flag(given, "interim_results"),
            given.get("endpointing", "true") != "false",
            punctuate,
            _flag(given, "vad_events"),
            _utterance_end(given),
        )

    def request(self, start_ts: float) -> StreamRequest:
        """Return what is asked of the speech service for audio that begins at so many seconds."""
        return StreamRequest(self.content_type, {**self.options, "start_ts": start_ts})


def _content_type(given: Mapping[str, str], channels: int) -> ContentType:
    encoding = given.get("encoding")
    if not encoding:
        return ContentType.undeclared()
    if encoding in CONTAINERS:
        return ContentType(CONTAINERS[encoding])
    if encoding not in SAMPLES:
        known = ", ".join([*SAMPLES, *CONTAINERS])
        raise BadRequest(f"encoding={encoding[:20]!r} is not supported here: send {known}, or a container without it")
    if "sample_rate" not in given:
        raise BadRequest(f"encoding={encoding} needs a sample_rate")
    rate = _whole(given, "sample_rate", 0, ContentType.RATES)
    return ContentType(ContentType.RAW, "interleaved", rate, SAMPLES[encoding], channels)


def _options(given: Mapping[str, str], phrases: list[str], *, punctuate: bool) -> dict[str, Option]:
    options: dict[str, Option] = {}
    if given.get("language"):
        options["language"] = given["language"]
    if not punctuate:
        options["skip_postprocessing"] = True
    if _flag(given, "profanity_filter"):
        options["filter_profanity"] = True
    if not _flag(given, "filler_words"):
        options["remove_disfluencies"] = True
    if _flag(given, "diarize"):
        options["enable_speaker_switch"] = True
    if phrases:  # a keyword may carry its weight: "name:2"
        options["custom_vocabulary_id"] = ",".join(phrase.partition(":")[0].replace(",", " ") for phrase in phrases)
    return options


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "false").lower()
    if value not in ("true", "false", ""):
        raise BadRequest(f"{name}={value[:20]!r}: send true or false")
    return value == "true"


def _whole(given: Mapping[str, str], name: str, otherwise: int, allowed: range) -> int:
    value = given.get(name)
    if value is None:
        return otherwise
    if value.isascii() and value.isdigit() and len(value) < 10 and int(value) in allowed:
        return int(value)
    raise BadRequest(f"{name}={value[:20]!r}: send a whole number from {allowed.start} to {allowed.stop - 1}")


def _utterance_end(given: Mapping[str, str]) -> float | None:
    if given.get("utterance_end_ms", "false") in ("false", ""):
        return None
    if not _flag(given, "interim_results"):
        raise BadRequest("utterance_end_ms needs interim_results=true")
    return _whole(given, "utterance_end_ms", 0, range(LEAST_UTTERANCE_END, 60_001)) / 1000


def command(text: str) -> Command | None:
    """Read a client's text; None for what is not understood."""
    if len(text) > LONGEST:
        return None
    try:
        return Command(str(parse_object(text)["type"]))
    except ValueError:
        return None


STATUS = {
    CloseCode.UNAUTHORIZED: (401, "INVALID_AUTH"),
    CloseCode.BAD_REQUEST: (400, "Bad Request"),
    CloseCode.FOREIGN: (403, "FORBIDDEN"),
    CloseCode.TOO_MANY: (429, "TOO_MANY_REQUESTS"),
    CloseCode.CROWDED: (429, "TOO_MANY_REQUESTS"),
    CloseCode.TOO_OFTEN: (429, "TOO_MANY_REQUESTS"),
}
OTHERWISE = (503, "SERVICE_UNAVAILABLE")


def refusal(close: Close, request_id: str) -> tuple[int, dict[str, str], str]:
    """Return the HTTP status, headers and body of a handshake that is refused, as its SDKs read them."""
    status, code = STATUS.get(CloseCode(close.code), OTHERWISE)
    body = json.dumps({"err_code": code, "err_msg": close.reason, "request_id": request_id})
    headers = {
        "content-type": "application/json",
        "dg-request-id": request_id,
        "dg-error": json.dumps(close.reason)[1:-1],
    }
    return status, headers, body


# ---- what a client is told -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes the messages of one connection."""

    request_id: str
    listen: Listen

    def results(
        self, heard: Hypothesis | None, start: float, end: float, *, is_final: bool, from_finalize: bool = False
    ) -> str:
        """Write what was heard from `start` to `end`, in seconds; None: nothing."""
        words = [] if heard is None else self._words(heard)
        name = "punctuated_word" if self.listen.punctuate else "word"
        alternative = {
            "transcript": " ".join(str(word[name]) for word in words),
            "confidence": _mean([word["confidence"] for word in words]),
            "words": words,
        }
        return json.dumps(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "duration": round(max(0.0, end - start), 3),
                "start": round(start, 3),
                "is_final": is_final,
                "speech_final": is_final and self.listen.endpointing and bool(words),
                "from_finalize": from_finalize,
                "channel": {"alternatives": [alternative]},
                "metadata": {
                    "request_id": self.request_id,
                    "model_info": {"name": self.listen.model, "version": "1", "arch": "speechbridge"},
                    "model_uuid": MODEL_UUID,
                },
            }
        )

    def speech_started(self, seconds: float) -> str:
        return json.dumps({"type": "SpeechStarted", "channel": [0, 1], "timestamp": round(seconds, 3)})

    def utterance_end(self, seconds: float) -> str:
        return json.dumps({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round(seconds, 3)})

    def metadata(self, created: str, duration: float) -> str:
        return json.dumps(
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": self.request_id,
                "sha256": "",  # of the audio, at Deepgram: nobody here keeps it
                "created": created,
                "duration": round(duration, 3),
                "channels": self.listen.channels,
            }
        )

    def error(self, text: str) -> str:
        """Write that a client's text was not understood. The connection lives."""
        return json.dumps(
            {
                "type": "Error",
                "variant": "SchemaError",
                "description": f"send audio as binary messages, or one of {', '.join(Command)} as JSON",
                "message": text[:LONGEST],
            }
        )

    def _words(self, heard: Hypothesis) -> list[dict[str, Any]]:
        spoken: list[tuple[Element, str]] = []
        for element in heard.elements:
            if element.type == "text":
                spoken.append((element, element.value))
            elif spoken and element.value.strip():  # punctuation belongs to the word before it
                spoken[-1] = (spoken[-1][0], spoken[-1][1] + element.value.strip())
        words = []
        for element, punctuated in spoken:
            start = heard.ts if element.ts is None else element.ts
            word: dict[str, Any] = {
                "word": element.value.lower(),
                "start": round(start, 3),
                "end": round(start if element.end_ts is None else element.end_ts, 3),
                "confidence": 0.0 if element.confidence is None else element.confidence,
            }
            if self.listen.punctuate:
                word["punctuated_word"] = punctuated
            if element.speaker is not None:
                word["speaker"] = int(element.speaker) if element.speaker.isdecimal() else element.speaker
            words.append(word)
        return words


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


class Talk:
    """What a client is told, from what happens on its connection. Times are seconds of the audio.

        state       a partial     a final               a flush was asked for   it is done
        QUIET       SPEAKING      QUIET                 FLUSHING                -
        SPEAKING    SPEAKING      QUIET                 FLUSHING                -
        FLUSHING    FLUSHING      FLUSHING, it is kept  FLUSHING                QUIET

    The last final of a flush says `from_finalize`, so each is kept until the next one, or until the flush is done: then
    it is the last, or there was none, and an empty one says so.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._listen = writer.listen
        self._is_speaking = False
        self._kept: Hypothesis | None = None  # the last final of a flush
        self._is_flushing = False
        self._settled = 0.0  # the end of the last final
        self._last_word: float | None = None  # where an utterance ended that was not told to have ended

    @property
    def is_speaking(self) -> bool:
        """Whether a partial has no final yet."""
        return self._is_speaking

    def partial(self, heard: Hypothesis) -> list[str]:
        if not heard.words:
            return []
        told = self._started(heard)
        self._last_word = None
        if self._listen.interim:
            told.append(self._writer.results(heard, self._start_of(heard), heard.end_ts, is_final=False))
        return told

    def final(self, heard: Hypothesis) -> list[str]:
        told = self._started(heard) if heard.words else []
        self._is_speaking = False
        if self._is_flushing:
            told += self._told(self._kept)
            self._kept = heard
            return told
        return told + self._told(heard)

    def flushing(self) -> None:
        """Note that a flush is asked for."""
        self._is_flushing = True

    def flushed(self, now: float) -> list[str]:
        """Return what says that it is done; `now` is where the audio is."""
        kept, self._kept, self._is_flushing, self._is_speaking = self._kept, None, False, False
        if kept is not None:
            return self._told(kept, from_finalize=True)
        start, self._settled = self._settled, max(self._settled, now)
        return [self._writer.results(None, start, self._settled, is_final=True, from_finalize=True)]

    def sounded(self, now: float) -> list[str]:
        """Note that there is audio up to `now`. Returns the end of an utterance, if it is due."""
        wanted, last = self._listen.utterance_end, self._last_word
        if wanted is None or last is None or now - last < wanted:
            return []
        self._last_word = None
        return [self._writer.utterance_end(last)]

    def _told(self, heard: Hypothesis | None, *, from_finalize: bool = False) -> list[str]:
        if heard is None:
            return []
        start = self._start_of(heard)
        self._settled = max(self._settled, heard.end_ts)
        if heard.words:
            self._last_word = heard.words[-1].end_ts or heard.end_ts
        elif not from_finalize:
            return []
        return [self._writer.results(heard, start, self._settled, is_final=True, from_finalize=from_finalize)]

    def _started(self, heard: Hypothesis) -> list[str]:
        if self._is_speaking or not self._listen.vad_events:
            self._is_speaking = True
            return []
        self._is_speaking = True
        return [self._writer.speech_started(heard.words[0].ts or heard.ts)]

    def _start_of(self, heard: Hypothesis) -> float:
        return max(0.0, min(heard.ts, heard.end_ts))
