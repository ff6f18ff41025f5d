"""OpenAI's `POST /v1/audio/transcriptions`: the fields of the form, and the answers in each format. Pure.

Reading is tolerant: any model is accepted; `prompt`, `temperature`, `chunking_strategy` and unknown fields are ignored.
Sources: OpenAI's API reference ("Create transcription") and its Python client.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.api_errors import ApiError
from speechbridge.protocol.captions import line, printable, to_srt, to_vtt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from speechbridge.protocol.messages import Element, Final

PATH = "/v1/audio/transcriptions"

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
STREAMED = ("json", "text")
GRANULARITIES = ("segment", "word")
LEAST = math.exp(-100.0)  # lower confidences count as this one, because 0 has no logarithm

LANGUAGES: Mapping[str, str] = {
    "ar": "arabic",
    "cmn": "chinese",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "it": "italian",
    "ja": "japanese",
    "ko": "korean",
    "nl": "dutch",
    "pl": "polish",
    "pt": "portuguese",
    "ru": "russian",
    "tr": "turkish",
    "uk": "ukrainian",
    "vi": "vietnamese",
    "zh": "chinese",
}
"""Names of languages, as `verbose_json` has them."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of the form, except the file."""

    has_model: bool = False
    language: str = ""
    response_format: str = "json"
    granularities: frozenset[str] = field(default_factory=lambda: frozenset({"segment"}))
    is_streamed: bool = False
    has_logprobs: bool = False

    @classmethod
    def read(cls, fields: Iterable[tuple[str, str]]) -> Form:
        """Read the fields; lists have `[]` after their names, or are repeated. Raises ApiError."""
        lists: dict[str, list[str]] = {}
        for name, value in fields:
            lists.setdefault(name.removesuffix("[]"), []).append(value)
        given = {name: values[-1] for name, values in lists.items()}
        languages = lists.get("languages", [])
        language = given.get("language") or (languages[0] if len(languages) == 1 else "")
        if not re.fullmatch(r"[A-Za-z]{0,8}([-_][A-Za-z0-9]{1,8}){0,3}", language):
            raise _wrong("language", language, "send a code, such as en")
        form = given.get("response_format") or "json"
        if form not in FORMATS:
            raise _wrong("response_format", form, f"send one of {', '.join(FORMATS)}")
        granularities = frozenset(lists.get("timestamp_granularities", ["segment"]))
        if not granularities <= set(GRANULARITIES):
            wrong = min(granularities - set(GRANULARITIES))
            raise _wrong("timestamp_granularities", wrong, f"send {' or '.join(GRANULARITIES)}")
        stream = given.get("stream", "").lower()
        if stream not in ("", "true", "false", "1", "0"):
            raise _wrong("stream", stream, "send true or false")
        is_streamed = stream in ("true", "1")
        if is_streamed and form not in STREAMED:
            raise _wrong("response_format", form, "with stream=true, send json or text")
        return cls("model" in given, language, form, granularities, is_streamed, "logprobs" in lists.get("include", []))


def _wrong(name: str, value: str, cure: str) -> ApiError:
    return ApiError(400, f"{name}={value[:40]!r}: {cure}", code="invalid_value", param=name)


@dataclass(frozen=True, slots=True)
class Transcription:
    """The transcription of a whole file, whose duration is `seconds`."""

    finals: Sequence[Final]
    seconds: float
    language: str

    @property
    def text(self) -> str:
        return "".join(text for _, text in texts_of(self.finals))

    def answer(self, form: Form) -> tuple[str, str]:
        """Return the response in the requested format, and its media type."""
        if form.response_format == "srt":
            return to_srt(self.finals), "text/plain; charset=utf-8"
        if form.response_format == "vtt":
            return to_vtt(self.finals), "text/vtt; charset=utf-8"
        if form.response_format == "text":
            return f"{self.text}\n", "text/plain; charset=utf-8"
        answer: dict[str, Any] = {"text": self.text}
        if form.response_format == "verbose_json":
            answer = self._verbose(form)
        if form.has_logprobs and form.response_format == "json":
            answer["logprobs"] = logprobs(texts_of(self.finals))
        answer["usage"] = {"type": "duration", "seconds": math.ceil(self.seconds)}
        return json.dumps(answer, ensure_ascii=False), "application/json"

    def _verbose(self, form: Form) -> dict[str, Any]:
        spoken = self.language.lower()
        answer: dict[str, Any] = {
            "task": "transcribe",
            "language": LANGUAGES.get(re.split("[-_]", spoken)[0], spoken),
            "duration": round(self.seconds, 3),
            "text": self.text,
        }
        if "segment" in form.granularities:
            answer["segments"] = [_segment(number, *one) for number, one in enumerate(texts_of(self.finals))]
        if "word" in form.granularities:
            answer["words"] = [_word(word, final) for final in self.finals for word in final.words]
        return answer


def texts_of(finals: Iterable[Final], *, is_first: bool = True) -> list[tuple[Final, str]]:
    """Return the finals that have text, each with its text on one line. The texts joined are the whole text.

    Each text but the first one begins with a space. `is_first` tells that no text came before these finals.
    """
    found: list[tuple[Final, str]] = []
    for final in finals:
        if text := line(final):
            found.append((final, text if is_first and not found else f" {text}"))
    return found


def delta(final: Final, text: str, *, has_logprobs: bool) -> str:
    """Write the server-sent event that appends a text."""
    event: dict[str, Any] = {"type": "transcript.text.delta", "delta": text}
    return json.dumps(event | ({"logprobs": logprobs([(final, text)])} if has_logprobs else {}))


def done(transcription: Transcription, *, has_logprobs: bool) -> str:
    """Write the last server-sent event, with the whole text."""
    event: dict[str, Any] = {"type": "transcript.text.done", "text": transcription.text}
    return json.dumps(event | ({"logprobs": logprobs(texts_of(transcription.finals))} if has_logprobs else {}))


def logprobs(finals: Iterable[tuple[Final, str]]) -> list[dict[str, Any]]:
    """Return each word, with the punctuation after it, and the logarithm of its confidence; 0.0 if that is unknown."""
    found: list[dict[str, Any]] = []
    for final, text in finals:
        tokens: list[tuple[str, float]] = []
        for element in final.elements:
            value = printable(element.value)
            if element.type == "text" or not tokens:
                tokens.append((value, _logarithm(element)))
            else:
                tokens[-1] = tokens[-1][0] + value, tokens[-1][1]
        if text.startswith(" ") and not (found and found[-1]["token"].endswith(" ")):
            tokens[0] = " " + tokens[0][0], tokens[0][1]
        found += [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in tokens]
    return found


def _logarithm(element: Element) -> float:
    return 0.0 if element.confidence is None else math.log(min(max(element.confidence, LEAST), 1.0))


def _segment(number: int, final: Final, text: str) -> dict[str, Any]:
    logarithms = [_logarithm(word) for word in final.words]
    size = len(text.encode())
    return {
        "id": number,
        "seek": round(100 * final.ts),  # in units of 10 ms
        "start": round(final.ts, 3),
        "end": round(final.end_ts, 3),
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(logarithms) / len(logarithms) if logarithms else 0.0,
        "compression_ratio": size / len(zlib.compress(text.encode())),
        "no_speech_prob": 0.0,
    }


def _word(word: Element, final: Final) -> dict[str, Any]:
    start = final.ts if word.ts is None else word.ts
    end = final.end_ts if word.end_ts is None else word.end_ts
    return {"word": printable(word.value), "start": round(start, 3), "end": round(end, 3)}
