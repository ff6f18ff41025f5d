"""How a connection ends: close codes, reasons, and what a client can do about each. Pure.

Every connection ends with one close frame, also after an error or a refusal: browsers and SDKs do not show the HTTP
status of a refused WebSocket.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

END_OF_INPUT = "End of input. Closing"
NO_DATA = "No data has been transferred, closing connection"
LIFETIME_REACHED = "Reached max session lifetime"

REASON_BYTES = 123  # a control frame holds 125 bytes, two of them the code: RFC 6455, 5.5


class CloseCode(IntEnum):
    """Why a connection ended: codes of RFC 6455, Rev.ai's codes (4xxx), and our own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    NO_CODE = 1005  # an empty close frame; never on the wire
    ABNORMAL = 1006  # no close frame at all; never on the wire
    INVALID = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    SERVICE_RESTART = 1012  # sent by other servers and proxies only; see `Close.for_client`
    TRY_AGAIN_LATER = 1013  # likewise
    BAD_GATEWAY = 1014
    UNAUTHORIZED = 4001
    BAD_REQUEST = 4002
    NO_CREDITS = 4003
    NO_TRANSCRIPT = 4004  # ours: a reader's token is unknown
    TOO_SLOW = 4008  # ours: the client does not acknowledge its finals
    TAKEN_OVER = 4009  # ours: the client resumed the stream on another connection
    SHUTTING_DOWN = 4010
    UNAVAILABLE = 4013
    TOO_MANY = 4029
    CROWDED = 4030  # this one and the following are ours; this one: the limit of connections per key or address
    TOO_OFTEN = 4031
    TOO_MANY_BYTES = 4032
    TOO_MANY_MESSAGES = 4033
    TOO_LONG = 4034
    IDLE = 4035
    FOREIGN = 4036  # a web page whose origin is not allowed


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame: its code and its reason."""

    code: int
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.code} ({self.reason})" if self.reason else str(self.code)

    def is_success(self, *, eos_sent: bool) -> bool:
        """Whether everything was transcribed: 1000 after EOS, unless its reason is that of a failure."""
        early = self.reason in (NO_DATA, LIFETIME_REACHED)
        return self.code == CloseCode.NORMAL and eos_sent and not early

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later, because neither the request nor the account is wrong."""
        return self.code not in (
            CloseCode.INVALID,
            CloseCode.POLICY,
            CloseCode.TOO_BIG,
            CloseCode.UNAUTHORIZED,
            CloseCode.BAD_REQUEST,
            CloseCode.NO_CREDITS,
            CloseCode.NO_TRANSCRIPT,
            CloseCode.TOO_SLOW,
            CloseCode.TAKEN_OVER,
            CloseCode.TOO_LONG,
            CloseCode.IDLE,
            CloseCode.FOREIGN,
        )

    def for_client(self) -> Close:
        """Return the close frame to send to a client for this ending, because some codes must not be sent.

        Codes below 1000, 1004 to 1006, and 1015 are not allowed on the wire. 1012 and 1013 are allowed, but rev_ai's
        Python client fails on them, so they are replaced by Rev.ai's equivalents.
        """
        substitutes: dict[int, int] = {
            CloseCode.SERVICE_RESTART: CloseCode.SHUTTING_DOWN,
            CloseCode.TRY_AGAIN_LATER: CloseCode.UNAVAILABLE,
        }
        code = substitutes.get(self.code, self.code)
        unsendable = not 1000 <= code < 5000 or code in (1004, 1005, 1006, 1015) or 1015 < code < 3000  # RFC 6455, 7.4
        return Close(CloseCode.INTERNAL if unsendable else code, fit_reason(self.reason))


def fit_reason(reason: str) -> str:
    """Cut a reason to the length that fits into a close frame, between two characters."""
    return reason.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


CURES: Mapping[int, tuple[str, str]] = {
    CloseCode.NORMAL: ("the service ended the stream before your end of the input", "try again"),
    CloseCode.GOING_AWAY: ("the service, or a proxy before it, is going away", "try again in a moment"),
    CloseCode.NO_CODE: ("the service, or a proxy before it, closed without saying why", "try again"),
    CloseCode.ABNORMAL: ("the connection broke off", "try again"),
    CloseCode.INVALID: ("the service could not read a message", "send audio as binary messages only"),
    CloseCode.POLICY: ("the client sent too many frames without content", "send fewer pings and empty messages"),
    CloseCode.TOO_BIG: ("a message was too large", "send smaller chunks, of 100 ms for example"),
    CloseCode.INTERNAL: ("the service failed", "try again; if it happens again, read the service's log"),
    CloseCode.SERVICE_RESTART: ("the service is restarting", "try again in a moment"),
    CloseCode.TRY_AGAIN_LATER: ("the service has no room at the moment", "try again later"),
    CloseCode.BAD_GATEWAY: ("the server behind the service cannot be reached", "try again later"),
    CloseCode.UNAUTHORIZED: (
        "the API key or token is not accepted",
        "check it; our own commands read it from SPEECHBRIDGE_KEY",
    ),
    CloseCode.BAD_REQUEST: ("the request is not accepted", "change it as the reason says"),
    CloseCode.NO_CREDITS: ("the account has no credits left", "add credits to it"),
    CloseCode.NO_TRANSCRIPT: ("there is no transcript to read", "ask the speaker for a new link"),
    CloseCode.TOO_SLOW: ("too many finals were not acknowledged", "acknowledge them, or connect without resume"),
    CloseCode.TAKEN_OVER: ("another connection has taken over the stream", "continue there"),
    CloseCode.SHUTTING_DOWN: ("the service is shutting down", "try again in a moment"),
    CloseCode.UNAVAILABLE: ("no recognizer is free", "try again later"),
    CloseCode.TOO_MANY: ("too many streams or connections at once", "wait until another one has ended"),
    CloseCode.CROWDED: ("too many connections of this key or address", "wait until another one has ended"),
    CloseCode.TOO_OFTEN: ("too many connections a minute", "wait as the reason says"),
    CloseCode.TOO_MANY_BYTES: ("too many bytes a second", "send at the pace of speech"),
    CloseCode.TOO_MANY_MESSAGES: ("too many messages a second", "send longer chunks, of 100 ms for example"),
    CloseCode.TOO_LONG: ("the stream has reached the longest duration that is allowed", "begin a new one"),
    CloseCode.IDLE: ("no audio arrived for too long", "keep sending, also silence, or end the input"),
    CloseCode.FOREIGN: ("pages of this origin may not connect", "add the origin to SPEECHBRIDGE_ORIGINS"),
}
"""What each close code means, and the cure."""

EARLY: Mapping[str, tuple[str, str]] = {
    NO_DATA: ("no audio arrived for too long", "keep sending, also silence, or end the input"),
    LIFETIME_REACHED: ("the stream has reached the longest duration that is allowed", "begin a new one"),
}
"""The failures that end with 1000, by their reason."""


def explain(close: Close) -> str:
    """Return what a close frame means and what to do about it, with its code and its reason."""
    by_code = CURES.get(close.code, ("the service ended the stream early", "try again"))
    meaning, cure = EARLY.get(close.reason, by_code)
    return f"{meaning}: {cure} [close code {close}]"
