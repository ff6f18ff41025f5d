"""What services that are not Rev.ai's make of a client's options. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.protocol.request import Option, StreamRequest

REGIONS = {"en": "US", "ja": "JP", "ko": "KR", "zh": "CN", "sv": "SE", "da": "DK", "uk": "UA", "hi": "IN", "pt": "BR"}


def language_of(options: Mapping[str, Option], default: str) -> str:
    """Return the language asked for, with a region, as in en-US: services want one, our clients may leave it out."""
    language = str(options.get("language") or default)
    return language if "-" in language else f"{language}-{REGIONS.get(language, language.upper())}"


def phrases_of(options: Mapping[str, Option]) -> list[str]:
    """Return the words and phrases to expect: `custom_vocabulary_id`, which at Rev.ai names a list, is one here."""
    return [phrase.strip() for phrase in str(options.get("custom_vocabulary_id", "")).split(",") if phrase.strip()]


def start_of(request: StreamRequest) -> float:
    """Return where a connection begins, in seconds of the stream."""
    return float(request.options.get("start_ts", 0.0))
