"""An HTTP request to a server, and explanations of its failures. The only use of urllib.request."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from speechbridge.blocking import in_own_thread
from speechbridge.protocol.address import is_nearby

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 5.0  # for each step of a request: connecting, TLS, the answer
SHOWN_BODY = 2**14  # bytes of an answer's body that are read

# OpenSSL's verification errors: x509_vfy.h
NOT_YET_VALID, EXPIRED = 9, 10
OTHER_NAME = (62, 64)  # a host name, an IP address


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


class Unanswered(Exception):
    """No HTTP answer arrived. The text says why, `cure` what to do."""

    def __init__(self, found: str, cure: str, *, is_certificate: bool = False) -> None:
        super().__init__(found)
        self.cure = cure
        self.is_certificate = is_certificate  # only the certificate is wrong


class _WithoutRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


async def fetch(url: str, *, checks_certificate: bool = True, origin: str = "") -> Answer:
    """GET a URL, http or https, without following redirects. Raises Unanswered.

    The request goes through the environment's proxy, unless the host is on this machine or in a private network.
    Without `checks_certificate` the answer may be forged, and no secret may be sent. An `origin` is sent as a browser
    sends that of its page.

    Cancellation: returns at once; the request ends by itself within seconds.
    """
    shown = origin_of(url)
    try:
        return await in_own_thread(lambda: _get(url, origin, checks_certificate=checks_certificate), "doctor-http")
    except URLError as error:
        raise _explained(shown, error.reason) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _explained(shown, error) from None


def unverified() -> ssl.SSLContext:
    """Make a TLS context that accepts every certificate, to examine a server in spite of a wrong one."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def http_url(url: str, path: str = "") -> str:
    """Return the http:// or https:// URL of a service, with a path appended."""
    parts = urlsplit(url)
    return parts._replace(scheme=parts.scheme.replace("ws", "http"), path=parts.path.rstrip("/") + path).geturl()


def origin_of(url: str) -> str:
    """Return the origin of a page at a URL, as a browser writes it: without a user, a path or a query."""
    parts = urlsplit(http_url(url))
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")


def _get(url: str, origin: str, *, checks_certificate: bool) -> Answer:
    context = ssl.create_default_context() if checks_certificate else unverified()
    is_direct = is_nearby(urlsplit(url).hostname or "")
    proxies = ProxyHandler({}) if is_direct else ProxyHandler()
    opener = build_opener(proxies, HTTPSHandler(context=context), _WithoutRedirects())
    headers = {"User-Agent": "speechbridge-doctor", "Accept": "*/*"} | ({"Origin": origin} if origin else {})
    try:
        with opener.open(Request(url, headers=headers), timeout=SECONDS) as answer:  # noqa: S310 # http and https only
            return _answer(answer)
    except HTTPError as refusal:
        with refusal:
            return _answer(refusal)


def _answer(answer: Any) -> Answer:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status, headers, answer.read(SHOWN_BODY).decode(errors="replace"))


def _explained(shown: str, error: object) -> Unanswered:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrusted(shown, error)
    found, cure = f"{shown} does not answer in HTTP", "check the scheme, the port, and what runs there"
    match error:
        case ssl.SSLError():
            found = f"TLS with {shown} fails ({error.reason or 'no reason given'})"
            cure = "if the port is for plain HTTP, write http:// or ws://; otherwise see the proxy's log"
        case socket.gaierror() | UnicodeError():
            found, cure = f"the host of {shown} is not known", "check its name, and the DNS of this machine"
        case TimeoutError():
            found = f"{shown} does not answer within {SECONDS:g} s"
            cure = "check the address, and the firewalls in between"
        case ConnectionRefusedError():
            found, cure = f"nothing listens at {shown}", "start it, or check the address and the port"
        case OSError() if error.errno:
            found = f"{shown} cannot be reached ({os.strerror(error.errno)})"
            cure = "check the address and the network"
    return Unanswered(found, cure)


def _distrusted(shown: str, error: ssl.SSLCertVerificationError) -> Unanswered:
    code = error.verify_code
    if code in OTHER_NAME:
        found, cure = "is for another name", "use the name in it, or get a certificate for this one"
    elif code == EXPIRED:
        found, cure = "has expired", "renew it; if it is new, this machine's clock is wrong"
    elif code == NOT_YET_VALID:
        found, cure = "is not valid yet", "set this machine's clock"
    else:
        found = f"is not trusted ({error.verify_message})"
        cure = (
            "configure the proxy to send the whole chain (fullchain.pem); for an authority of your own, set"
            " SSL_CERT_FILE=root.crt for our commands, and import the root certificate into browsers"
        )
    return Unanswered(f"the certificate of {shown} {found}", cure, is_certificate=True)
