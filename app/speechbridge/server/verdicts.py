"""How a session ends: its outcome, for the metrics, and the close frame that its client gets."""

from __future__ import annotations

import logging

from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode
from speechbridge.server.totals import Outcome
from syncbridge import Closed, Early, Overloaded, Stuck, WrongStart

logger = logging.getLogger("speechbridge.server.session")  # its logger, for users who filter by name

Verdict = tuple[Outcome, Close]

DRAINED: Verdict = (
    "drained",
    Close(CloseCode.SHUTTING_DOWN, "the service is shutting down: connect again shortly"),
)
TOO_LONG: Verdict = (
    "limited",
    Close(CloseCode.TOO_LONG, "the stream has reached the longest duration allowed: continue with a new one"),
)


def verdict_of(error: Exception, total: int) -> Verdict:
    """Return the verdict for an exception that ended a stream; log it if it is unexpected. There are `total` slots."""
    match error:
        case Closed():  # we cancelled the bridge: the session has a verdict already, or its client left and time was up
            return "left", Close(CloseCode.INTERNAL, "the stream was cut")
        case UpstreamClosed():
            return "upstream", error.close.for_client()
        case Early() | Stuck():  # the text is our own, so it holds no secret
            logger.warning("the speech SDK ended early: %s", error)
            return "upstream", Close(CloseCode.INTERNAL, f"the speech SDK ended early: {error}").for_client()
        case WrongStart():  # likewise
            logger.error("the speech SDK cannot be used: %s", error)
            return "failed", Close(CloseCode.INTERNAL, str(error)).for_client()
        case Overloaded():
            text = f"all {total} streams are in use: try again when one has ended"
            return "refused", Close(CloseCode.TOO_MANY, text)
    # The SDK may raise anything. The text may hold secrets, so the client gets only the type.
    logger.error("the speech SDK failed", exc_info=error)
    return "failed", Close(CloseCode.INTERNAL, f"the speech SDK failed: {type(error).__name__}")
