"""Who may come in, and how much of everything each may have. Knows neither sockets nor HTTP.

A visitor is judged in this order, and told the first thing that is wrong:

    its page       a browser says which page's script connects; whoever lets any page in lends it the user's network
    its pace       handshakes a minute, of its address. Before its key is looked at: guessing keys is slow, then
    its key        one of those that are set, if any are
    its pace       the same, of its key
    its share      connections at once, of its address and of its key

What it sends afterwards is metered for its address and for its key: each has one `Account`. Loopback addresses have
none: a proxy on this machine must say for whom it comes (`SPEECHBRIDGE_TRUSTED_PROXIES`), or only keys are limited.

The only import of throttled.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from throttled import MemoryStore, RateLimiterType, Throttled, per_min

from speechbridge.protocol.address import is_loopback
from speechbridge.protocol.close import Close, CloseCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REMEMBERED = 2**16  # addresses and keys whose handshakes are counted, about 20 MB; the longest unseen go first
LINE = re.compile(r"(?P<name>[\w.@-]{1,64}):(?P<digest>[0-9a-f]{64})")


class Refused(Exception):
    """A visitor may not come in. `close` is what it is told."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.close = Close(code, reason)


def make_key(name: str) -> tuple[str, str]:
    """Make up a key; return it, and the line that lets it in. Raises ValueError for a name that cannot be one.

    The line holds a plain SHA-256: nobody guesses 256 random bits, so nothing slower is needed to protect them.
    """
    key = secrets.token_urlsafe(32)
    line = f"{name}:{_digest(key)}"
    if not LINE.fullmatch(line):
        raise ValueError(f"{name!r} is no name for a key: take letters, digits, and . _ @ - (64 at most)")
    return key, line


class Keys:
    """The keys that are let in, each by its name. Empty: everybody is."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Raise ValueError for a line that `make_key` cannot have made. It is not shown: it may be a key."""
        self._names: dict[str, str] = {}  # by digest
        for number, line in enumerate(lines, 1):
            found = LINE.fullmatch(line)
            if found is None:
                raise ValueError(f"line {number} is not of the form NAME:SHA256, as `speechbridge key NAME` prints it")
            self._names[found["digest"]] = found["name"]

    def __bool__(self) -> bool:
        return bool(self._names)

    def name(self, key: str) -> str | None:
        """Return whose key this is, in a time that tells nothing about the others."""
        digest = _digest(key)
        found = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Origins:
    """The origins of pages that may connect.

    Compared whole, as scheme, host and port. A page may also be our own: its origin is then the host that it asked for.
    That is believed of loopback names only, or (`keyed`) where a key is asked for as well; any other name may be an
    attacker's, pointed at us.
    """

    def __init__(self, allowed: Sequence[str], *, keyed: bool) -> None:
        self._allowed = {_normal(origin) for origin in allowed}
        self._keyed = keyed

    def allow(self, origins: Sequence[str], host: str, *, has_cookie: bool) -> bool:
        """Judge a handshake by its Origin headers, its Host, and whether it carries a cookie.

        No Origin means no browser. One that sends cookies all the same is a browser that hides where it comes from.
        """
        if not origins:
            return not has_cookie
        if len(origins) > 1 or origins[0] == "null":
            return False
        origin = _normal(origins[0])
        return origin in self._allowed or self._is_own(origin, host)

    def _is_own(self, origin: str, host: str) -> bool:
        own = {_normal(f"{scheme}://{host}") for scheme in ("http", "https")}
        return origin in own and (self._keyed or is_loopback(urlsplit(origin).hostname or ""))


def _normal(origin: str) -> str:
    """Write an origin in one way only. What is none stays as it is, and equals nothing but itself."""
    try:
        parts = urlsplit(origin)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return origin
    if not parts.hostname or f"{parts.scheme}://{parts.netloc}".lower() != origin.lower() or "@" in parts.netloc:
        return origin
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much each key, and each address, may have. 0: as much as it likes."""

    sessions_per_key: int = 0
    sessions_per_address: int = 0
    handshakes_per_minute: int = 0
    bytes_per_second: int = 0
    messages_per_second: int = 0


@dataclass(slots=True, weakref_slot=True)
class Account:
    """What a key or an address has at the moment."""

    kind: str  # "key" or "address", as the visitor is told
    most: int  # connections at once; 0: no limit
    connections: int = 0
    _second: int = 0
    _bytes: int = 0
    _messages: int = 0

    def count(self, size: int, second: int, allowance: Allowance) -> Close | None:
        """Count a message; return what its sender is told if it was too much for one second."""
        if second != self._second:
            self._second, self._bytes, self._messages = second, 0, 0
        self._bytes += size
        self._messages += 1
        if self._bytes > allowance.bytes_per_second > 0:
            text = f"more than {allowance.bytes_per_second} bytes a second from this {self.kind}: send slower"
            return Close(CloseCode.TOO_MANY_BYTES, text)
        if self._messages > allowance.messages_per_second > 0:
            text = (
                f"more than {allowance.messages_per_second} messages a second from this {self.kind}: send longer ones"
            )
            return Close(CloseCode.TOO_MANY_MESSAGES, text)
        return None


class Visit:
    """A connection that was let in, and whatever it leaves behind that still lasts: both hold its place."""

    def __init__(self, accounts: tuple[Account, ...], allowance: Allowance, *, takes_place: bool) -> None:
        self._accounts = accounts
        self._allowance = allowance
        self._place = int(takes_place)
        self.has_pace = bool(accounts and (allowance.bytes_per_second or allowance.messages_per_second))
        self._holders = 0

    def count(self, size: int, now: float) -> Close | None:
        """Count a message of so many bytes, at a time in seconds; return what its sender is told if it was too much."""
        second, verdict = int(now), None
        for account in self._accounts:
            verdict = account.count(size, second, self._allowance) or verdict
        return verdict

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the place for the time of a `with`. Several may; it is free again when the last of them is done."""
        self._hold(1)
        try:
            yield
        finally:
            self._hold(-1)

    def _hold(self, more: int) -> None:
        was_held, self._holders = self._holders > 0, self._holders + more
        for account in self._accounts:
            account.connections += self._place * ((self._holders > 0) - was_held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """What a handshake says of who comes."""

    origins: Sequence[str] = ()  # its Origin headers: one at most, of a browser
    host: str = ""  # its Host header
    has_cookie: bool = False
    address: str = ""
    key: str = field(default="", repr=False)
    is_resuming: bool = False  # to a stream that holds a place already


class Admission:
    """The door. Everything in it is called from the event loop."""

    def __init__(self, keys: Keys, origins: Origins, allowance: Allowance) -> None:
        self.keys = keys
        self.origins = origins
        self.allowance = allowance
        self._accounts: WeakValueDictionary[str, Account] = WeakValueDictionary()  # of those who are in
        pace = allowance.handshakes_per_minute
        self._pace = pace and Throttled(
            using=RateLimiterType.GCRA.value,
            quota=per_min(pace, burst=pace),
            store=MemoryStore(options={"MAX_SIZE": REMEMBERED}),
        )

    def admit(self, visitor: Visitor) -> Visit:
        """Let a visitor in, or raise Refused. Whoever gets a visit holds its place before anything else happens."""
        address = _network(visitor.address)
        if not self.origins.allow(visitor.origins, visitor.host, has_cookie=visitor.has_cookie):
            what = "pages of this origin may not connect: SPEECHBRIDGE_ORIGINS names those that may"
            raise Refused(CloseCode.FOREIGN, what)
        accounts = []
        if address:
            self._keep_pace("address", address)
            accounts.append(self._account("address", address, self.allowance.sessions_per_address))
        if self.keys:
            name = self.keys.name(visitor.key)
            if name is None:
                known = "this API key is not known" if visitor.key else "an API key is needed"
                raise Refused(CloseCode.UNAUTHORIZED, f"{known}: send it as access_token or Authorization: Bearer")
            self._keep_pace("key", name)
            accounts.append(self._account("key", name, self.allowance.sessions_per_key))
        for account in accounts:
            if not visitor.is_resuming and 0 < account.most <= account.connections:
                what = f"this {account.kind} has {account.connections} connections: try again when one has ended"
                raise Refused(CloseCode.CROWDED, what)
        return Visit(tuple(accounts), self.allowance, takes_place=not visitor.is_resuming)

    def _keep_pace(self, kind: str, who: str) -> None:
        if self._pace:
            result = self._pace.limit(f"{kind} {who}")
            if result.limited:
                wait = math.ceil(result.state.retry_after)
                what = f"more than {self.allowance.handshakes_per_minute} connections a minute from this {kind}"
                raise Refused(CloseCode.TOO_OFTEN, f"{what}: try again in {wait} s")

    def _account(self, kind: str, who: str, most: int) -> Account:
        return self._accounts.setdefault(f"{kind} {who}", Account(kind, most))


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64 that one network has; empty for loopback."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address and "unknown"  # all of them one: anybody can make names up, of any length
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return ""
    return str(ip) if isinstance(ip, IPv4Address) else str(ip_network((ip, 64), strict=False))
