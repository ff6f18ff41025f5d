"""Errors of HTTP endpoints, in the format that OpenAI's clients read. Pure.

The status decides which exception a client raises, and whether it retries: OpenAI's do after 408, 409, 429 and 5xx.
Source: OpenAI's API reference ("Error codes") and its Python client.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from speechbridge.protocol.close import CloseCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from speechbridge.protocol.close import Close

INVALID, LIMITED, FAILED = "invalid_request_error", "rate_limit_error", "server_error"

OF_CLOSE: Mapping[int, tuple[int, str, str]] = {
    CloseCode.UNAUTHORIZED: (401, INVALID, "invalid_api_key"),
    CloseCode.FOREIGN: (403, INVALID, "origin_not_allowed"),
    CloseCode.BAD_REQUEST: (400, INVALID, "invalid_value"),
    CloseCode.TOO_LONG: (400, INVALID, "audio_too_long"),
    CloseCode.NO_CREDITS: (429, "insufficient_quota", "insufficient_quota"),
    CloseCode.TOO_MANY: (429, LIMITED, "rate_limit_exceeded"),
    CloseCode.CROWDED: (429, LIMITED, "rate_limit_exceeded"),
    CloseCode.TOO_OFTEN: (429, LIMITED, "rate_limit_exceeded"),
    CloseCode.SHUTTING_DOWN: (503, FAILED, "shutting_down"),
    CloseCode.UNAVAILABLE: (503, FAILED, "overloaded"),
    CloseCode.BAD_GATEWAY: (502, FAILED, "bad_gateway"),
}
"""For each close code of a WebSocket, the HTTP status, and the error's type and code. Any other close code is 500."""


class ApiError(Exception):
    """A request fails. The text is for the client; `param` names the wrong field."""

    def __init__(
        self, status: int, message: str, *, kind: str = INVALID, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self._error = {"message": message, "type": kind, "param": param, "code": code}

    @classmethod
    def of(cls, close: Close) -> ApiError:
        """Return the HTTP error that corresponds to a close frame."""
        status, kind, code = OF_CLOSE.get(close.code, (500, FAILED, None))
        return cls(status, close.reason or "the service failed", kind=kind, code=code)

    def encode(self) -> bytes:
        """Write it as the body of a response, or as the data of a server-sent event."""
        return json.dumps({"error": self._error}).encode()
