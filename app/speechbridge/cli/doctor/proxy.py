"""A service at its public URL, looked at through all proxies before it, as a browser does.

First plain HTTP; then WebSockets at `/ws`, which costs nothing upstream: one from the service's own page, and one from
a page of a foreign origin. At last one is held without traffic: the service pings every 20 s, and a browser sends
nothing by itself, so whoever closes that connection has a timeout.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from speechbridge.cli.doctor.web import Unanswered, fetch, http_url, origin_of, unverified
from speechbridge.client.dial import NoConnection, Refused, close_of, dial, service_address
from speechbridge.protocol.address import is_loopback, is_nearby
from speechbridge.protocol.close import Close, CloseCode, explain
from speechbridge.protocol.flows import PATH
from speechbridge.protocol.handshake import Arrived

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager

    from websockets.asyncio.client import ClientConnection

    from speechbridge.cli.doctor.findings import Case, Report

HEARTBEAT = 20.0  # seconds between two pings of the service
ANSWER_SECONDS = 10.0
STEP = 0.25  # seconds between two reports of progress
FOREIGN = "https://speechbridge-doctor.invalid"  # a name that nobody can have: RFC 2606
NGINX = "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade"
SAMPLES = "deploy/samples shows how"
TIMEOUTS = "nginx: proxy_read_timeout 90s; HAProxy: timeout tunnel 1h; load balancers: idle timeout"


async def proxy(case: Case, report: Report) -> None:
    """Examine the service at the public URL; the certificate is another check's, and is not looked at again here."""
    if not case.url:
        report.note("not looked at", "`speechbridge doctor --url https://...` dials the public URL as a browser does")
        return
    try:
        trusts = await _is_trusted(case.url)
        if not await _page(case, report, checks_certificate=trusts):
            return
    except Unanswered as trouble:
        report.wrong(str(trouble), trouble.cure)
        return
    # A key is no business of a server that may be another's.
    key = case.settings.key.get_secret_value() if trusts else ""
    door = _Door(case.url, key, None if trusts else unverified())
    try:
        for origin in await _websocket(case, report, door):
            await _hold(case, report, door, origin)
    except NoConnection as error:  # the first one opened, and another not
        found, _, cure = str(error).rpartition(": ")
        report.wrong(f"not every WebSocket opens: {found}", cure)


async def _is_trusted(url: str) -> bool:
    try:
        await fetch(http_url(url, "/livez"))
    except Unanswered as trouble:
        if trouble.is_certificate:
            return False
        raise
    return True


async def _page(case: Case, report: Report, *, checks_certificate: bool) -> bool:
    """Look at what the URL answers to HTTP; tell whether it is worth opening a WebSocket."""
    where = origin_of(case.url)
    live = await fetch(http_url(case.url, "/livez"), checks_certificate=checks_certificate)
    page = await fetch(http_url(case.url, "/"), checks_certificate=checks_certificate)
    status = page.status
    if 300 <= status < 400:
        target = urlsplit(page.headers.get("location", ""))
        to = f"{target.scheme}://{target.netloc}" if target.netloc else target.path
        report.wrong(f"{where} redirects to {to}", "a WebSocket follows no redirect: publish, and give, that URL")
    elif status in (502, 503, 504):
        cure = "start it, and check the address in the proxy (nginx: proxy_pass)"
        report.wrong(f"{where} answers HTTP {status}: the proxy does not reach the service", cure)
        return False
    elif status in (401, 403, 407):
        cure = "let it pass everybody on; the service has keys of its own"
        report.wrong(f"{where} answers HTTP {status}: the proxy wants a login", cure)
    elif live.body == "alive\n" or (status == 200 and "speechbridge" in page.body):
        report.ok(f"{where} reaches the service")
    else:
        cure = f"have the proxy pass this path on to the service; {SAMPLES}"
        report.wrong(f"{where} answers HTTP {status}, and not as a speechbridge", cure)
    host = urlsplit(case.url).hostname or ""
    if case.url.startswith(("ws:", "http:")) and not is_loopback(host):
        # In a private network the page may be of no interest.
        say = report.note if is_nearby(host) else report.wrong
        say("browsers give the microphone only to pages with https", f"have the proxy speak TLS; {SAMPLES}")
    metrics = await fetch(http_url(case.url, "/metrics"), checks_certificate=checks_certificate)
    if "speechbridge_" in metrics.body and not is_loopback(host):
        report.note("/metrics can be read from outside", f"have the proxy answer 404; {SAMPLES}")
    return True


@dataclass(frozen=True, slots=True)
class _Door:
    """Where WebSockets are opened."""

    url: str
    key: str
    tls: ssl.SSLContext | None

    def dial(self, origin: str | None) -> AbstractAsyncContextManager[ClientConnection]:
        """Open a WebSocket as a browser does for a page of an origin; None as a program does."""
        offered = [Subprotocol("speechbridge")]
        offered += [Subprotocol(f"speechbridge.key.{self.key}")] if self.key else []
        address = service_address(self.url, PATH)
        return dial(address, subprotocols=offered, origin=origin, ping_interval=None, tls=self.tls)

    async def knock(self, origin: str | None) -> Close | None:
        """Open a WebSocket and close it; return how it was refused, None if it was not. Raises NoConnection."""
        async with self.dial(origin) as socket:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await (await socket.ping())
            except ConnectionClosed as closed:
                return close_of(closed)
            except TimeoutError:
                return Close(CloseCode.ABNORMAL, "no pong came back")
        return None

    async def look(self, origin: str) -> Arrived | None:
        """Return what arrives of a plain request of a page; None if the service does not say it."""
        try:
            url = service_address(http_url(self.url), PATH).url
            answer = await fetch(http_url(url), checks_certificate=self.tls is None, origin=origin)
        except Unanswered:
            return None
        return Arrived.read(answer.body)


async def _websocket(case: Case, report: Report, door: _Door) -> list[str | None]:
    """Open one as the page does. Return the origin, None for none, with which one stays open; [] if there is none."""
    origin = case.origin or origin_of(case.url)
    try:
        close = await door.knock(origin)
    except Refused as refusal:
        _not_upgraded(report, refusal)
        return []
    except NoConnection as error:
        found, _, cure = str(error).rpartition(": ")
        report.wrong(f"no WebSocket: {found}", cure)
        return []
    if close is None:
        report.ok(f"a page of {origin} may open a WebSocket")
        await _foreign(report, door)
        return [origin]
    if close.code == CloseCode.FOREIGN:
        await _refused_origin(case, report, door, origin)
        if await door.knock(None) is None:  # a program may, so there is still something to be looked at
            return [None]
    elif close.code == CloseCode.UNAUTHORIZED:
        _refused_key(report, door, close)
    elif close.code == CloseCode.ABNORMAL:
        cure = f"the proxy answers the handshake, and passes nothing on: {NGINX}"
        report.wrong(f"the WebSocket opens, and breaks at once ({close})", cure)
    else:
        report.wrong("the WebSocket is closed at once", explain(close))
    return []


def _not_upgraded(report: Report, refusal: Refused) -> None:
    arrived = Arrived.read(refusal.body)
    if arrived:
        mistakes = ["speaks HTTP/1.0"] if "HTTP/1.1" in arrived.missing else []
        dropped = [name for name in arrived.missing if name != "HTTP/1.1"]
        mistakes += [f"drops {' and '.join(dropped)}"] if dropped else []
        report.wrong(f"the proxy {' and '.join(mistakes)}, so no WebSocket opens", f"have it pass all on ({NGINX})")
    elif refusal.status == 400:
        said = refusal.body.strip().splitlines()
        report.wrong(
            f"the handshake does not arrive as it was sent (HTTP 400{f': {said[-1]}' if said else ''})",
            f"have the proxy pass all headers on ({NGINX})",
        )
    elif refusal.status in (404, 405, 426, 200):
        cure = f"have the proxy pass {PATH} and its Upgrade header on ({NGINX})"
        report.wrong(f"the handshake is answered with HTTP {refusal.status}", cure)
    else:
        found, _, cure = str(refusal).rpartition(": ")
        report.wrong(f"no WebSocket: {found}", cure)


async def _refused_origin(case: Case, report: Report, door: _Door, origin: str) -> None:
    """Find out why a page may not connect: it may be another's, or the proxy may rewrite a header."""
    found = f"a page of {origin} may not connect (close code 4036)"
    setting = f"set SPEECHBRIDGE_ORIGINS={origin}"
    host = origin_of(case.url).partition("://")[2]
    arrived = await door.look(origin)
    if arrived is not None and arrived.origin != origin:
        cure = "have it pass Origin on as it is"
        report.wrong(f"{found}, as the proxy rewrites Origin to {arrived.origin}", cure)
    elif arrived is not None and origin == origin_of(case.url) and arrived.host != host:
        cure = f"have it pass Host on (nginx: proxy_set_header Host $http_host), or {setting}"
        report.wrong(f"{found}, as the proxy rewrites Host to {arrived.host}", cure)
    elif origin == origin_of(case.url):
        report.wrong(f"{found}: without API keys only loopback addresses are trusted", f"set keys, or {setting}")
    else:
        report.wrong(found, setting)


def _refused_key(report: Report, door: _Door, close: Close) -> None:
    if not door.key:
        report.note(
            "an API key is needed; without one, timeouts cannot be tried", "set SPEECHBRIDGE_KEY and run this again"
        )
    elif "is needed" in close.reason:
        cure = "have it pass all headers of the handshake on"
        report.wrong("the proxy drops Sec-WebSocket-Protocol, in which a page sends its API key", cure)
    else:
        report.wrong("the key in SPEECHBRIDGE_KEY is not known to the service", "make one with `speechbridge key NAME`")


async def _foreign(report: Report, door: _Door) -> None:
    """Check that a page of nobody's is refused: if not, every website can connect through its visitor's browser."""
    close = await door.knock(FOREIGN)
    if close is None:
        arrived = await door.look(FOREIGN)
        does = f"rewrites Origin to {arrived.origin}" if arrived is not None and arrived.origin else "drops Origin"
        cure = "have it pass Origin on as it is"
        report.wrong(f"the proxy {does}, so every website can connect through its visitor's browser", cure)
    elif close.code == CloseCode.FOREIGN:
        report.ok("pages of foreign origins are refused")


async def _hold(case: Case, report: Report, door: _Door, origin: str | None) -> None:
    """Hold a connection without traffic of ours."""
    if not case.hold:
        report.note("no connection was held", "--hold SECONDS finds timeouts")
        return
    clock = asyncio.get_running_loop().time
    async with door.dial(origin) as socket:
        began = clock()
        while not socket.close_code and (held := clock() - began) < case.hold:
            case.progress(held)
            await asyncio.sleep(STEP)
        held = clock() - began
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await (await socket.ping())
        except ConnectionClosed as closed:
            _cut(report, close_of(closed), held)
        except TimeoutError:
            found = f"after {held:.0f} s without traffic the connection is dead, and nobody has closed it"
            report.wrong(found, "a firewall or NAT on the way forgets it: raise its idle timeout")
        else:
            report.ok(f"a connection without traffic stays open for {held:.0f} s")


def _cut(report: Report, close: Close, held: float) -> None:
    """Tell what a connection that was held ended by."""
    if close.code == CloseCode.IDLE:
        cure = "set SPEECHBRIDGE_IDLE_SECONDS higher, or 0"
        report.note(f"the service itself closes a connection after {held:.0f} s without traffic", cure)
    elif close.code not in (CloseCode.ABNORMAL, CloseCode.NO_CODE, CloseCode.GOING_AWAY, CloseCode.NORMAL):
        report.wrong(f"the connection was closed after {held:.0f} s", explain(close))
    elif held <= HEARTBEAT + 1:
        report.wrong(
            f"something on the way closes a connection after {held:.0f} s without traffic; the service pings only every"
            f" {HEARTBEAT:.0f} s",
            f"raise the proxy's idle timeout to 60 s or more ({TIMEOUTS})",
        )
    else:
        report.wrong(
            f"something on the way closes a connection after {held:.0f} s, although the service pings every"
            f" {HEARTBEAT:.0f} s",
            f"the proxy limits how long a connection lasts, or holds pings back: raise its timeouts ({TIMEOUTS})",
        )
