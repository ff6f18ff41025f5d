"""OpenAI's realtime transcription: reading a client's events, writing the service's, and the session's settings. Pure.

Client and service send JSON objects with a `type`. There are two dialects, and clients of both are in use:

    current    session.update {"type": "transcription", "audio": {"input": {...}}}       conversation.item.added, .done
    beta       transcription_session.update {"input_audio_format": ..., ...}             conversation.item.created

Both are accepted. A wrong event is a WrongEvent: the client gets an error, and the connection stays open.
Sources: OpenAI's realtime guide and the types of its Python package, versions 1.107 to 3.57.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from speechbridge.protocol.api_errors import FAILED, INVALID, OF_CLOSE
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.request import ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from speechbridge.protocol.close import Close

REALTIME = "/v1/realtime"  # the paths
CLIENT_SECRETS = "/v1/realtime/client_secrets"
PCM_RATE = 24_000  # samples a second, if a client names no rate
LOGPROBS = "item.input_audio_transcription.logprobs"

LARGE = 2**14  # characters. Only events with audio are larger, and base64 contains none of JSON's punctuation
PUNCTUATION = 100  # of JSON's punctuation marks that a large event may have: parsing more would take milliseconds
SHOWN = 60  # characters of a client's value that an error shows

UPDATE, BETA_UPDATE = "session.update", "transcription_session.update"
APPEND, COMMIT, CLEAR = "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear"
EVENTS = (UPDATE, BETA_UPDATE, APPEND, COMMIT, CLEAR)
"""The client's events that are supported."""


class WrongEvent(Exception):
    """An event that cannot be processed. The text is for the client."""

    def __init__(self, text: str, code: str, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.param = param
        self.event_id = event_id  # of the client's event

    def encode(self) -> dict[str, Any]:
        """Return the service's `error` event."""
        return error(INVALID, str(self), self.code, self.param, self.event_id)


@dataclass(frozen=True, slots=True)
class Event:
    """A client's event: its type, one of EVENTS, and its content."""

    type: str
    event_id: str | None = None
    audio: bytes = b""
    session: Mapping[str, Any] = field(default_factory=dict)


def read(text: str | bytes) -> Event:
    """Read a client's event. Raises WrongEvent for anything else. It takes a few milliseconds at most."""
    message = _object(text)
    given = message.get("event_id")
    event_id = given if isinstance(given, str) and len(given) <= 512 else None
    try:
        kind = message.get("type")
        if kind not in EVENTS:
            supported = ", ".join(f"'{name}'" for name in EVENTS)
            raise _invalid("type", kind, supported) if "type" in message else _missing("type")
        if kind == APPEND:
            return Event(APPEND, event_id, _audio(message))
        if kind not in (UPDATE, BETA_UPDATE):
            return Event(str(kind), event_id)
        session = message.get("session")
        if not (isinstance(session, dict) and session):
            raise _missing("session")
        return Event(str(kind), event_id, session=session)
    except WrongEvent as wrong:
        wrong.event_id = event_id
        raise


def _object(text: str | bytes) -> dict[str, Any]:
    if len(text) > LARGE:
        text = text if isinstance(text, str) else text.decode(errors="replace")
        if sum(map(text.count, ",[{")) > PUNCTUATION:
            raise WrongEvent(f"an event without audio may have {LARGE} characters", "event_too_large")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise WrongEvent("the message is not JSON", "invalid_json") from None
    if not isinstance(message, dict):
        raise WrongEvent("an event is a JSON object with a type", "invalid_event")
    return message


def _audio(message: Mapping[str, Any]) -> bytes:
    audio = message.get("audio")
    if not isinstance(audio, str):
        raise _missing("audio")
    try:
        return binascii.a2b_base64(audio.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError):  # binascii.Error is a ValueError
        raise WrongEvent("Invalid 'audio': send base64 with its padding", "invalid_value", "audio") from None


def _missing(name: str) -> WrongEvent:
    return WrongEvent(f"Missing required parameter: '{name}'.", "missing_required_parameter", name)


def _invalid(name: str, value: object, supported: str) -> WrongEvent:
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return WrongEvent(f"Invalid value for '{name}': {shown}. Supported: {supported}.", "invalid_value", name)


# ---- the session's settings ------------------------------------------------------------------------------------------

BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a client's session. Mappings are kept as the client sent them; most entries have no effect."""

    format: str = "audio/pcm"
    rate: int = PCM_RATE
    turn_detection: Mapping[str, Any] | None = field(default_factory=lambda: dict(VAD))  # None: the client commits
    transcription: Mapping[str, Any] = field(default_factory=dict)
    noise_reduction: Mapping[str, Any] | None = None
    include: tuple[str, ...] = ()

    @property
    def content_type(self) -> ContentType:
        return ContentType.raw(self.rate) if self.format == "audio/pcm" else ContentType.parse(self.format)

    @property
    def language(self) -> str:
        """The language of the speech; "" if the client leaves it to the service."""
        languages = self.transcription.get("languages") or [""]
        return str(self.transcription.get("language") or (languages[0] if len(languages) == 1 else ""))

    @property
    def has_logprobs(self) -> bool:
        return LOGPROBS in self.include

    def with_model(self, name: str) -> Settings:
        """Return the settings with the model that a URL names. It is only shown to the client, and has no effect."""
        return replace(self, transcription={**self.transcription, "model": name[: 2 * SHOWN]}) if name else self

    def updated(self, session: Mapping[str, Any]) -> Settings:
        """Return the settings changed by an update, in either dialect. Raises WrongEvent."""
        settings = self
        flat = dict(session)
        if (kind := flat.pop("type", "transcription")) != "transcription":
            raise _invalid("session.type", kind, "'transcription'")
        audio = flat.pop("audio", None)
        if audio is not None:
            given = _mapping(audio, "session.audio")
            inputs = _mapping(given.get("input", {}), "session.audio.input")
            _only(given, {"input"}, "session.audio")
            for name, value in inputs.items():
                settings = _changed(settings, name, value, f"session.audio.input.{name}", NESTED)
        for name, value in flat.items():
            settings = _changed(settings, name, value, f"session.{name}", FLAT)
        return settings

    def shown(self, session_id: str) -> dict[str, Any]:
        """Return the session in the current dialect."""
        form = {"type": self.format} | ({"rate": self.rate} if self.format == "audio/pcm" else {})
        given = {
            "format": form,
            "noise_reduction": self.noise_reduction,
            "transcription": self.transcription or None,
            "turn_detection": self.turn_detection,
        }
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "audio": {"input": given},
            "include": list(self.include) or None,
        }

    def shown_beta(self, session_id: str) -> dict[str, Any]:
        """Return the session in the beta dialect."""
        names = {media: name for name, media in BETA_FORMATS.items()}
        return {
            "object": "realtime.transcription_session",
            "id": session_id,
            "input_audio_format": names[self.format],
            "input_audio_noise_reduction": self.noise_reduction,
            "input_audio_transcription": self.transcription or None,
            "turn_detection": self.turn_detection,
            "include": list(self.include) or None,
            "client_secret": None,
        }


if TYPE_CHECKING:
    Setter = Callable[[Settings, object, str], Settings]


def _changed(settings: Settings, name: str, value: object, path: str, known: Mapping[str, Setter]) -> Settings:
    if name not in known:
        raise _unknown(path)
    return known[name](settings, value, path)


def _unknown(path: str) -> WrongEvent:
    shown = path[: 2 * SHOWN]
    return WrongEvent(f"Unknown parameter: '{shown}'.", "unknown_parameter", shown)


def _mapping(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(path, value, "an object")
    return value


def _only(given: Mapping[str, Any], known: set[str], path: str) -> None:
    for name in given:
        if name not in known:
            raise _unknown(f"{path}.{name}".lstrip("."))


def _set_format(settings: Settings, value: object, path: str) -> Settings:
    if value is None:
        return replace(settings, format="audio/pcm", rate=PCM_RATE)
    given = _mapping(value, path)
    _only(given, {"type", "rate"}, path)
    kind, rate = given.get("type", "audio/pcm"), given.get("rate")
    if kind not in BETA_FORMATS.values():
        raise _invalid(f"{path}.type", kind, ", ".join(f"'{name}'" for name in BETA_FORMATS.values()))
    if kind != "audio/pcm":
        return replace(settings, format=kind, rate=PCM_RATE)
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int) or rate not in ContentType.RATES):
        allowed = ContentType.RATES
        raise _invalid(f"{path}.rate", rate, f"a whole number from {allowed.start} to {allowed.stop - 1}")
    return replace(settings, format=kind, rate=rate or PCM_RATE)


def _set_beta_format(settings: Settings, value: object, path: str) -> Settings:
    if not isinstance(value, str) or value not in BETA_FORMATS:
        raise _invalid(path, value, ", ".join(f"'{name}'" for name in BETA_FORMATS))
    return replace(settings, format=BETA_FORMATS[value], rate=PCM_RATE)


def _set_turn_detection(settings: Settings, value: object, path: str) -> Settings:
    if value is None:
        return replace(settings, turn_detection=None)
    given = _mapping(value, path)
    kinds = ("server_vad", "semantic_vad")
    if given.get("type", "server_vad") not in kinds:
        raise _invalid(f"{path}.type", given.get("type"), ", ".join(f"'{name}'" for name in kinds))
    return replace(settings, turn_detection={"type": "server_vad", **given})


def _set_transcription(settings: Settings, value: object, path: str) -> Settings:
    given = {} if value is None else _mapping(value, path)
    for name in ("language", "model"):
        if given.get(name) is not None and not _is_short(given[name]):
            raise _invalid(f"{path}.{name}", given[name], "a short text")
    languages = given.get("languages")
    if languages is not None and not (isinstance(languages, list) and all(map(_is_short, languages))):
        raise _invalid(f"{path}.languages", languages, "a list of short texts")
    return replace(settings, transcription=given)


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 2 * SHOWN and value.isprintable()


def _set_noise_reduction(settings: Settings, value: object, path: str) -> Settings:
    return replace(settings, noise_reduction=None if value is None else _mapping(value, path))


def _set_include(settings: Settings, value: object, path: str) -> Settings:
    given = [] if value is None else value
    if not isinstance(given, list) or any(name != LOGPROBS for name in given):
        raise _invalid(path, value, f"['{LOGPROBS}']")
    return replace(settings, include=tuple(given[:1]))


def _ignore(settings: Settings, _value: object, _path: str) -> Settings:
    return settings


NESTED: Mapping[str, Setter] = {
    "format": _set_format,
    "noise_reduction": _set_noise_reduction,
    "transcription": _set_transcription,
    "turn_detection": _set_turn_detection,
}
FLAT: Mapping[str, Setter] = {
    "include": _set_include,
    "input_audio_format": _set_beta_format,
    "input_audio_noise_reduction": _set_noise_reduction,
    "input_audio_transcription": _set_transcription,
    "turn_detection": _set_turn_detection,
    "modalities": _ignore,
    "client_secret": _ignore,
}


# ---- client secrets --------------------------------------------------------------------------------------------------

SECRET_SECONDS = 600  # that a secret is valid, unless its request names another time
SECRET_RANGE = range(10, 7201)
SECRET_BYTES = 2**12  # that a request for a secret may have


def read_secret_request(body: bytes) -> tuple[int, Settings]:
    """Return for how many seconds a secret is valid, and the settings of its sessions. Raises WrongEvent."""
    request = _object(body or b"{}")
    _only(request, {"expires_after", "session"}, "")
    after = _mapping(request.get("expires_after", {}), "expires_after")
    _only(after, {"anchor", "seconds"}, "expires_after")
    if after.get("anchor", "created_at") != "created_at":
        raise _invalid("expires_after.anchor", after["anchor"], "'created_at'")
    seconds = after.get("seconds", SECRET_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds not in SECRET_RANGE:
        allowed = f"a whole number from {SECRET_RANGE.start} to {SECRET_RANGE.stop - 1}"
        raise _invalid("expires_after.seconds", seconds, allowed)
    return seconds, Settings().updated(_mapping(request.get("session", {}), "session"))


# ---- the service's events --------------------------------------------------------------------------------------------


def error(
    kind: str, text: str, code: str | None = None, param: str | None = None, event_id: str | None = None
) -> dict[str, Any]:
    """Return an `error` event. `event_id` is the id of the client's event."""
    return {
        "type": "error",
        "error": {"type": kind, "code": code, "message": text, "param": param, "event_id": event_id},
    }


def ending(close: Close) -> dict[str, Any]:
    """Return the `error` event to send before a close frame other than 1000."""
    _, kind, code = OF_CLOSE.get(close.code, (500, FAILED, "server_error"))
    if close.code == CloseCode.TOO_BIG:  # not in OF_CLOSE, because no HTTP request ends with it
        kind, code = INVALID, "event_too_large"
    code = "session_expired" if close.code == CloseCode.TOO_LONG else code
    return error(kind, close.reason or f"the connection is closed with {close}", code)
