"""The options of a stream that this recognizer supports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.protocol.request import BadRequest, ContentType
from speechbridge.recognizer.utterances import LONGEST
from speechbridge.recognizer.wav import Format

if TYPE_CHECKING:
    from speechbridge.protocol.request import StreamRequest


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Rev.ai's options that are supported; all others are ignored. Times are in seconds."""

    start_ts: float = 0.0
    detailed_partials: bool = False
    max_segment: float = LONGEST
    filter_profanity: bool = False
    remove_disfluencies: bool = False
    skip_postprocessing: bool = False

    @classmethod
    def read(cls, request: StreamRequest, language: str) -> StreamOptions:
        """Read the options of a request. Raises BadRequest for another language than the model's."""
        options = request.options
        if str(options.get("language", language)).lower().partition("-")[0] != language.lower().partition("-")[0]:
            raise BadRequest(f"another language than the model's: send language={language}, or none")
        return cls(
            float(options.get("start_ts", 0.0)),
            bool(options.get("detailed_partials", False)),
            float(options.get("max_segment_duration_seconds", LONGEST)),
            bool(options.get("filter_profanity", False)),
            bool(options.get("remove_disfluencies", False)),
            bool(options.get("skip_postprocessing", False)),
        )


def audio_format(content_type: ContentType) -> Format | None:
    """Return the format of raw audio; None for WAV, whose header has it. Raises BadRequest for other audio."""
    if content_type.media == "audio/x-wav":
        return None
    cure = f"send {ContentType.raw()} or audio/x-wav"
    if content_type.media != ContentType.RAW:
        raise BadRequest(f"{content_type.media} is not decoded here: {cure}")
    if content_type.format != "S16LE":
        raise BadRequest(f"only format=S16LE is decoded here: {cure}")
    rate, channels = content_type.rate, content_type.channels
    if rate is None or channels is None:
        raise BadRequest(f"rate or channels are missing: {cure}")
    if content_type.layout != "interleaved" and channels > 1:
        raise BadRequest(f"{channels} channels must be interleaved: {cure}")
    return Format(rate, channels)
