"""A client's options, translated for speech services other than Rev.ai's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.protocol.request import Option, StreamRequest

REGIONS = {"en": "US", "ja": "JP", "ko": "KR", "zh": "CN", "sv": "SE", "da": "DK", "uk": "UA", "hi": "IN", "pt": "BR"}


def language_of(options: Mapping[str, Option], default: str) -> str:
    """Return the requested language with a region, as in en-US: services need one, our clients may leave it out."""
    language = str(options.get("language") or default)
    return language if "-" in language else f"{language}-{REGIONS.get(language, language.upper())}"


def phrases_of(options: Mapping[str, Option]) -> list[str]:
    """Return the words and phrases to expect.

    At Rev.ai `custom_vocabulary_id` is the name of a stored list; here it is the list itself, separated by commas.
    """
    return [phrase.strip() for phrase in str(options.get("custom_vocabulary_id", "")).split(",") if phrase.strip()]


def start_of(request: StreamRequest) -> float:
    """Return the time at which a connection begins, in seconds of the stream."""
    return float(request.options.get("start_ts", 0.0))
