"""The log line at the end of a session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechbridge.protocol.close import Close
    from speechbridge.server.delays import Delays
    from speechbridge.server.totals import Outcome, Totals
    from syncbridge import Statistics

logger = logging.getLogger("speechbridge.server.session")  # its logger, for users who filter by name


def log_end(  # noqa: PLR0913, PLR0917 # everything that the line contains
    outcome: Outcome, close: Close, totals: Totals, counts: Statistics | None, content_type: str, delays: Delays | None
) -> None:
    """Log how a session has ended, and its totals. Without `counts` it was refused."""
    fields: dict[str, object] = {"outcome": outcome, "code": int(close.code), "reason": close.reason}
    if counts is None:
        logger.info("refused with %s", close, extra=fields)
        return
    fields |= {
        "content_type": content_type,
        "chunks": counts.sent,
        "chunks_upstream": counts.fed,
        "responses": counts.yielded,
        "responses_out": counts.received,
        "seconds": round(totals.received, 3),
        "seconds_replayed": round(totals.replayed, 3),
        "seconds_lost": round(totals.lost, 3),
    }
    means = delays.means if delays else {}
    fields |= {f"{kind}_delay": round(mean.value, 3) for kind, mean in means.items() if mean.value is not None}
    text = "closed with %s after %.1f s of audio: %d chunks in, %d of them upstream, %d responses, %d of them out"
    numbers = (totals.received, counts.sent, counts.fed, counts.yielded, counts.received)
    logger.info(text, close, *numbers, extra=fields)
