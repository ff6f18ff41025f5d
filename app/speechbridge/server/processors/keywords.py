"""Keyword alerts: marks finals that contain certain words, and logs them.

    SPEECHBRIDGE_PROCESSORS=speechbridge.server.processors.keywords:Alerts
    SPEECHBRIDGE_KEYWORDS="refund,my lawyer"

A final of Rev.ai's protocol gets one more field, `"alerts": ["refund"]`. A separate message would be unknown to
clients, and would change the numbers of the finals after it.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Final, kind_of, parse_message
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger(__name__)


class Alerts:
    """The processor. It finds whole words and phrases, in upper or lower case, even across elements.

    By default they come from the setting SPEECHBRIDGE_KEYWORDS.
    """

    def __init__(self, keywords: Iterable[str] | None = None) -> None:
        given = Settings.read().keywords.split(",") if keywords is None else keywords
        self._keywords = {" ".join(word.split()) for word in given} - {""}
        if not self._keywords:
            raise ValueError("SPEECHBRIDGE_KEYWORDS is empty: set the words to look for, separated by commas")
        # Not within a word, nor within a number: "5" does not match in "5.5".
        self._patterns = {
            word: re.compile(rf"(?<!\w)(?<!\w[.,]){_spaced(word)}(?![.,]?\w)", re.IGNORECASE)
            for word in sorted(self._keywords)
        }

    def __call__(self, message: str) -> str:
        final = parse_message(message) if kind_of(message) == "final" else None
        if not isinstance(final, Final):
            return message
        text = " ".join(word.value for word in final.words)
        found = [word for word, pattern in self._patterns.items() if pattern.search(text)]
        if not found:
            return message
        logger.info("keywords from %g to %g s: %s", final.ts, final.end_ts, ", ".join(found), extra={"alerts": found})
        return json.dumps(json.loads(message) | {"alerts": found})


def _spaced(keyword: str) -> str:
    """Return the pattern of a keyword: "mr dashwood" matches "Mr. Dashwood", "cold hearted" matches "cold-hearted"."""
    parts = [part for part in re.split(r"[\s-]+", keyword) if part]
    return r"[\s-]+".join(re.escape(part.removesuffix(".")) + r"\.?" for part in parts) or re.escape(keyword)
