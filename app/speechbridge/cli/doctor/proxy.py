"""The check of a service at its public URL, through all proxies in front of it, as a browser connects.

First it tries plain HTTP. Then it opens WebSockets at `/ws`, which opens no upstream stream: one as the service's own
page, and one as a page of a foreign origin. Last it holds one without traffic. The service pings every 20 s, and a
browser sends nothing by itself; so if that connection is closed, something in between has a timeout.
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
FOREIGN = "https://speechbridge-doctor.invalid"  # a name that nobody can register: RFC 2606
NGINX = "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade"
SAMPLES = "deploy/samples shows how"
TIMEOUTS = "nginx: proxy_read_timeout 90s; HAProxy: timeout tunnel 1h; load balancers: idle timeout"


async def proxy(case: Case, report: Report) -> None:
    """Examine the service at the public URL, even if its certificate is wrong: the check `tls` reports that."""
    if not case.url:
        report.note(
            "not checked", "`speechbridge doctor --url https://...` connects to the public URL as a browser does"
        )
        return
    try:
        trusts = await _is_trusted(case.url)
        if not await _page(case, report, checks_certificate=trusts):
            return
    except Unanswered as trouble:
        report.wrong(str(trouble), trouble.cure)
        return
    # Do not send the key to a server that is not verified.
    key = case.settings.key.get_secret_value() if trusts else ""
    target = _Target(case.url, key, None if trusts else unverified())
    try:
        for origin in await _websocket(case, report, target):
            await _hold(case, report, target, origin)
    except NoConnection as error:  # the first WebSocket opened, and a later one did not
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
    """Check the answers to plain HTTP; return whether the service can be reached at all."""
    where = origin_of(case.url)
    live = await fetch(http_url(case.url, "/livez"), checks_certificate=checks_certificate)
    page = await fetch(http_url(case.url, "/"), checks_certificate=checks_certificate)
    status = page.status
    if 300 <= status < 400:
        target = urlsplit(page.headers.get("location", ""))
        to = f"{target.scheme}://{target.netloc}" if target.netloc else target.path
        report.wrong(f"{where} redirects to {to}", "a WebSocket follows no redirect: publish and use that URL")
    elif status in (502, 503, 504):
        cure = "start it, and check the address in the proxy (nginx: proxy_pass)"
        report.wrong(f"{where} answers HTTP {status}: the proxy does not reach the service", cure)
        return False
    elif status in (401, 403, 407):
        cure = "remove the login there; the service has API keys of its own"
        report.wrong(f"{where} answers HTTP {status}: the proxy requires a login", cure)
    elif live.body == "alive\n" or (status == 200 and "speechbridge" in page.body):
        report.ok(f"{where} reaches the service")
    else:
        cure = f"configure the proxy to pass this path on to the service; {SAMPLES}"
        report.wrong(f"{where} answers HTTP {status}, and not as a speechbridge", cure)
    host = urlsplit(case.url).hostname or ""
    if case.url.startswith(("ws:", "http:")) and not is_loopback(host):
        # In a private network the page may not be used at all.
        say = report.note if is_nearby(host) else report.wrong
        say("browsers allow the microphone only on pages with https", f"configure TLS in the proxy; {SAMPLES}")
    metrics = await fetch(http_url(case.url, "/metrics"), checks_certificate=checks_certificate)
    if "speechbridge_" in metrics.body and not is_loopback(host):
        report.note("/metrics can be read from outside", f"configure the proxy to answer 404; {SAMPLES}")
    return True


@dataclass(frozen=True, slots=True)
class _Target:
    """The service under examination, and how to open WebSockets to it."""

    url: str
    key: str
    tls: ssl.SSLContext | None

    def dial(self, origin: str | None) -> AbstractAsyncContextManager[ClientConnection]:
        """Open a WebSocket as a browser does for a page of an origin; with None, as a program without an origin."""
        offered = [Subprotocol("speechbridge")]
        offered += [Subprotocol(f"speechbridge.key.{self.key}")] if self.key else []
        address = service_address(self.url, PATH)
        return dial(address, subprotocols=offered, origin=origin, ping_interval=None, tls=self.tls)

    async def try_open(self, origin: str | None) -> Close | None:
        """Open a WebSocket and close it; return the close with which it was refused, or None. Raises NoConnection."""
        async with self.dial(origin) as socket:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await (await socket.ping())
            except ConnectionClosed as closed:
                return close_of(closed)
            except TimeoutError:
                return Close(CloseCode.ABNORMAL, "no pong arrived")
        return None

    async def arriving_headers(self, origin: str) -> Arrived | None:
        """Return which headers of a page's request reach the service; None if the service does not report them."""
        try:
            url = service_address(http_url(self.url), PATH).url
            answer = await fetch(http_url(url), checks_certificate=self.tls is None, origin=origin)
        except Unanswered:
            return None
        return Arrived.read(answer.body)


async def _websocket(case: Case, report: Report, target: _Target) -> list[str | None]:
    """Open a WebSocket as the page does.

    Returns a list with the origin with which one can be held open, None for a program without an origin; an empty list
    if none can be opened.
    """
    origin = case.origin or origin_of(case.url)
    try:
        close = await target.try_open(origin)
    except Refused as refusal:
        _not_upgraded(report, refusal)
        return []
    except NoConnection as error:
        found, _, cure = str(error).rpartition(": ")
        report.wrong(f"no WebSocket: {found}", cure)
        return []
    if close is None:
        report.ok(f"a page of {origin} may open a WebSocket")
        await _foreign(report, target)
        return [origin]
    if close.code == CloseCode.FOREIGN:
        await _refused_origin(case, report, target, origin)
        if await target.try_open(None) is None:  # programs may connect, so timeouts can still be tested
            return [None]
    elif close.code == CloseCode.UNAUTHORIZED:
        _refused_key(report, target, close)
    elif close.code == CloseCode.ABNORMAL:
        cure = f"the proxy answers the handshake, but passes no data on: {NGINX}"
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
        cure = f"configure it to pass them all on ({NGINX})"
        report.wrong(f"the proxy {' and '.join(mistakes)}, so no WebSocket opens", cure)
    elif refusal.status == 400:
        lines = refusal.body.strip().splitlines()
        report.wrong(
            f"the handshake does not arrive unchanged (HTTP 400{f': {lines[-1]}' if lines else ''})",
            f"configure the proxy to pass all headers on ({NGINX})",
        )
    elif refusal.status in (404, 405, 426, 200):
        cure = f"configure the proxy to pass {PATH} and its Upgrade header on ({NGINX})"
        report.wrong(f"the handshake is answered with HTTP {refusal.status}", cure)
    else:
        found, _, cure = str(refusal).rpartition(": ")
        report.wrong(f"no WebSocket: {found}", cure)


async def _refused_origin(case: Case, report: Report, target: _Target, origin: str) -> None:
    """Find out why a page may not connect: its origin is foreign, or the proxy rewrites a header."""
    found = f"a page of {origin} may not connect (close code 4036)"
    setting = f"set SPEECHBRIDGE_ORIGINS={origin}"
    host = origin_of(case.url).partition("://")[2]
    arrived = await target.arriving_headers(origin)
    if arrived is not None and arrived.origin != origin:
        cure = "configure it to pass Origin on unchanged"
        report.wrong(f"{found}, as the proxy rewrites Origin to {arrived.origin}", cure)
    elif arrived is not None and origin == origin_of(case.url) and arrived.host != host:
        cure = f"configure it to pass Host on (nginx: proxy_set_header Host $http_host), or {setting}"
        report.wrong(f"{found}, as the proxy rewrites Host to {arrived.host}", cure)
    elif origin == origin_of(case.url):
        report.wrong(f"{found}: without API keys only loopback addresses are trusted", f"set keys, or {setting}")
    else:
        report.wrong(found, setting)


def _refused_key(report: Report, target: _Target, close: Close) -> None:
    if not target.key:
        report.note(
            "an API key is needed; without one, timeouts cannot be tested", "set SPEECHBRIDGE_KEY and run this again"
        )
    elif "is needed" in close.reason:
        cure = "configure it to pass all headers of the handshake on"
        report.wrong("the proxy drops Sec-WebSocket-Protocol, in which a page sends its API key", cure)
    else:
        report.wrong("the key in SPEECHBRIDGE_KEY is not known to the service", "make one with `speechbridge key NAME`")


async def _foreign(report: Report, target: _Target) -> None:
    """Check that foreign origins are refused: if not, any website can connect through its visitor's browser."""
    close = await target.try_open(FOREIGN)
    if close is None:
        arrived = await target.arriving_headers(FOREIGN)
        does = f"rewrites Origin to {arrived.origin}" if arrived is not None and arrived.origin else "drops Origin"
        cure = "configure it to pass Origin on unchanged"
        report.wrong(f"the proxy {does}, so every website can connect through its visitor's browser", cure)
    elif close.code == CloseCode.FOREIGN:
        report.ok("pages of foreign origins are refused")


async def _hold(case: Case, report: Report, target: _Target, origin: str | None) -> None:
    """Hold a connection open without sending anything."""
    if not case.hold:
        report.note("no connection was held", "--hold SECONDS finds timeouts")
        return
    clock = asyncio.get_running_loop().time
    async with target.dial(origin) as socket:
        began = clock()
        while not socket.close_code and (held := clock() - began) < case.hold:
            case.progress(held)
            await asyncio.sleep(STEP)
        held = clock() - began
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await (await socket.ping())
        except ConnectionClosed as closed:
            _closed_early(report, close_of(closed), held)
        except TimeoutError:
            found = f"after {held:.0f} s without traffic the connection is dead, although nothing closed it"
            report.wrong(found, "a firewall or NAT in between has dropped it: raise its idle timeout")
        else:
            report.ok(f"a connection without traffic stays open for {held:.0f} s")


def _closed_early(report: Report, close: Close, held: float) -> None:
    """Report why the held connection was closed."""
    if close.code == CloseCode.IDLE:
        cure = "set SPEECHBRIDGE_IDLE_SECONDS higher, or 0"
        report.note(f"the service itself closes a connection after {held:.0f} s without traffic", cure)
    elif close.code not in (CloseCode.ABNORMAL, CloseCode.NO_CODE, CloseCode.GOING_AWAY, CloseCode.NORMAL):
        report.wrong(f"the connection was closed after {held:.0f} s", explain(close))
    elif held <= HEARTBEAT + 1:
        report.wrong(
            f"something in between closes a connection after {held:.0f} s without traffic; the service pings only every"
            f" {HEARTBEAT:.0f} s",
            f"raise the proxy's idle timeout to 60 s or more ({TIMEOUTS})",
        )
    else:
        report.wrong(
            f"something in between closes a connection after {held:.0f} s, although the service pings every"
            f" {HEARTBEAT:.0f} s",
            f"the proxy limits how long a connection lasts, or delays pings: raise its timeouts ({TIMEOUTS})",
        )
