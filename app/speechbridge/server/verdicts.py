"""How a session ends: its outcome, for the metrics, and the close frame that its client gets."""

from __future__ import annotations

from speechbridge.protocol.close import Close, CloseCode
from speechbridge.server.totals import Outcome

Verdict = tuple[Outcome, Close]

DRAINED: Verdict = (
    "drained",
    Close(CloseCode.SHUTTING_DOWN, "the service is shutting down: connect again shortly"),
)
TOO_LONG: Verdict = (
    "limited",
    Close(CloseCode.TOO_LONG, "the stream has reached the longest duration allowed: continue with a new one"),
)
