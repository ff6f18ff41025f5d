"""What a failed connect means: whether another try may succeed, and which close the client gets.

No exception of websocket-client leaves this package: it may show the URL, and in it the access token.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.rev_socket import (
    Timeouts,
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketTimeoutException,
)
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from speechbridge.engines.health import Health

logger = logging.getLogger(__name__)

# The close code for an HTTP status in place of 101; the server or a proxy may have sent it. All others: 4013.
STATUSES = {
    400: CloseCode.BAD_REQUEST,
    401: CloseCode.UNAUTHORIZED,
    402: CloseCode.NO_CREDITS,
    403: CloseCode.UNAUTHORIZED,
    413: CloseCode.BAD_REQUEST,
    414: CloseCode.BAD_REQUEST,
    431: CloseCode.BAD_REQUEST,  # 413, 414 and 431: the client's own parameters are too long
    429: CloseCode.TOO_MANY,
}


def no_connection(error: Exception, health: Health, timeouts: Timeouts) -> UpstreamClosed:
    """Return the exception to raise for an error while connecting.

    If no stream has ever connected, a wrong address is more likely than an outage: then the error is not retryable, and
    the client gets it at once.
    """
    if isinstance(error, WebSocketBadStatusException):
        code = STATUSES.get(error.status_code, CloseCode.UNAVAILABLE)
        return UpstreamClosed(Close(code, f"the speech service answered HTTP {error.status_code}"))
    logger.warning("the upstream cannot be reached: %s", type(error).__name__)
    has_connected = health.has_connected
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"the speech service's certificate is not valid: {error.verify_message}"
            return health.unreachable(reason, is_retryable=False)
        case TimeoutError() | WebSocketTimeoutException():
            reason = f"the speech service did not answer within {timeouts.connect:g} s"
            return health.unreachable(reason, is_retryable=has_connected, has_timed_out=True)
        case WebSocketAddressException():
            return health.unreachable("the speech service's host is not known", is_retryable=has_connected)
    return health.unreachable("the speech service cannot be reached", is_retryable=True)
