"""What a gRPC status means for us: the close code for the client, and whether another try may succeed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.protocol.close import Close, CloseCode, fit_reason

if TYPE_CHECKING:
    from speechbridge.engines.health import Health

logger = logging.getLogger(__name__)

CLOSES = {
    "UNAUTHENTICATED": CloseCode.UNAUTHORIZED,
    "PERMISSION_DENIED": CloseCode.UNAUTHORIZED,
    "INVALID_ARGUMENT": CloseCode.BAD_REQUEST,
    "NOT_FOUND": CloseCode.BAD_REQUEST,
    "FAILED_PRECONDITION": CloseCode.BAD_REQUEST,
    "UNIMPLEMENTED": CloseCode.BAD_REQUEST,
    "RESOURCE_EXHAUSTED": CloseCode.TOO_MANY,
    "INTERNAL": CloseCode.INTERNAL,
    "UNKNOWN": CloseCode.INTERNAL,
    "DATA_LOSS": CloseCode.INTERNAL,
}
"""Our close code for a status. Others, such as ABORTED and OUT_OF_RANGE at a time limit, are retryable: 4013."""


def call_failed(status: str, details: str, health: Health, connect_seconds: float) -> UpstreamClosed:
    """Return the exception to raise for a call that ended with this status. The details must hold no key."""
    code = CLOSES.get(status, CloseCode.UNAVAILABLE)
    if code is not CloseCode.UNAUTHORIZED:  # its details may repeat a part of the credentials
        logger.warning("the speech service answered %s: %s", status, details)
    if status == "UNAVAILABLE":
        return _unreachable(details, health, connect_seconds)
    # Only details about the client's own request are for the client; others may reveal the account or the setup.
    answer = f"{status}: {details}" if status == "INVALID_ARGUMENT" else status
    return UpstreamClosed(Close(code, fit_reason(f"the speech service answered {answer}")))


def connect_timed_out(health: Health, connect_seconds: float) -> UpstreamClosed:
    """Return the exception to raise if connecting took too long."""
    reason = f"the speech service did not answer within {connect_seconds:g} s"
    return health.unreachable(reason, is_retryable=health.has_connected, has_timed_out=True)


def _unreachable(details: str, health: Health, connect_seconds: float) -> UpstreamClosed:
    if "certificate" in details.lower():
        return health.unreachable("the speech service's certificate is not valid", is_retryable=False)
    if "timed out" in details:
        return connect_timed_out(health, connect_seconds)
    if "resolution" in details:  # of the host name
        return health.unreachable("the speech service's host is not known", is_retryable=health.has_connected)
    return health.unreachable("the speech service cannot be reached", is_retryable=True)
