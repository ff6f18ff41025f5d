"""How much each API key and each client address may use: connections, handshakes a minute, bytes and messages a second.

Each key and each address has one `Account` while it is connected. Loopback addresses have none: a proxy on this machine
must say for whom it connects (`SPEECHBRIDGE_TRUSTED_PROXIES`), or only keys are limited. One more account counts all
connections of the service: of streams, of `/ws` and of `/relay`.

The only import of throttled.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from speechbridge.loading import hidden
from speechbridge.protocol.close import Close, CloseCode

with hidden("redis"):  # throttled can count there, too, and imports it where it is installed: 6 MB
    from throttled import MemoryStore, RateLimiterType, Throttled, per_min

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from speechbridge.settings import LimitSettings

REMEMBERED = 2**16  # keys and addresses whose handshakes are counted: about 20 MB. The least recent are evicted first

Kind = Literal["key", "address", "service"]


class Refused(Exception):
    """A connection is refused. `close` is what its client is told."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.close = Close(code, reason)


def excess(kind: Kind, size: int, messages: int, limits: LimitSettings) -> Close | None:
    """Return what is told to one whose key or address has sent so much in a second; None if it was not too much."""
    if size > limits.bytes_per_second > 0:
        text = f"more than {limits.bytes_per_second} bytes a second from this {kind}: send slower"
        return Close(CloseCode.TOO_MANY_BYTES, text)
    if messages > limits.messages_per_second > 0:
        text = f"more than {limits.messages_per_second} messages a second from this {kind}: send longer ones"
        return Close(CloseCode.TOO_MANY_MESSAGES, text)
    return None


def crowded(kind: str, connections: int) -> Refused:
    """Return what is told to one whose key or address, or for whom the whole service, has too many connections."""
    text = f"this {kind} has {connections} connections: try again when one has ended"
    return Refused(CloseCode.TOO_MANY if kind == "service" else CloseCode.CROWDED, text)


def pause(size: int, now: float, limits: LimitSettings) -> float:
    """Return for how many seconds to take no more of an upload that brought these bytes too fast."""
    return max(1 - now % 1, size / (limits.bytes_per_second or size))


@dataclass(slots=True, weakref_slot=True)
class Account:
    """What a key or an address uses at the moment."""

    kind: Kind
    most: int  # connections at once; 0: no limit
    who: str = ""
    connections: int = 0
    _second: int = 0
    _bytes: int = 0
    _messages: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind} {self.who}"

    def count(self, size: int, messages: int, second: int, limits: LimitSettings) -> Close | None:
        """Count bytes and messages; return what their sender is told if that was too much for one second."""
        if second != self._second:
            self._second, self._bytes, self._messages = second, 0, 0
        self._bytes += size
        self._messages += messages
        return excess(self.kind, self._bytes, self._messages, limits)


class Lease:
    """The right to one connection. It takes up a place in the accounts for as long as anybody holds it.

    Its connection holds it, and so does a resumable stream, which outlives that connection. `ended` is called when the
    last of them has let go of it.
    """

    def __init__(
        self, accounts: tuple[Account, ...], limits: LimitSettings, owner: str = "", *, takes_place: bool
    ) -> None:
        self.owner = owner  # of the key; "" where no key is needed
        self._accounts = accounts
        self._limits = limits
        self._places = int(takes_place)
        self._holders = 0
        self.ended: Callable[[], object] = lambda: None
        self.took: Callable[[], object] = lambda: None  # called when it has taken places that it had not
        self.metered = [account for account in accounts if account.kind != "service"]
        self.is_metered = bool(self.metered and (limits.bytes_per_second or limits.messages_per_second))

    def count(self, size: int, messages: int, now: float) -> Close | None:
        """Count bytes and messages at a time in seconds; return what their sender is told if it was too much.

        Each fragment, ping and pong counts as a message.
        """
        second, verdict = int(now), None
        for account in self.metered:
            verdict = account.count(size, messages, second, self._limits) or verdict
        return verdict

    def pause(self, size: int, now: float) -> float:
        """Count bytes of an upload at a time in seconds; return for how many seconds to take no more of it."""
        if not self.is_metered or self.count(size, 0, now) is None:
            return 0.0
        return pause(size, now, self._limits)

    @property
    def places(self) -> tuple[Account, ...]:
        """The accounts of which it takes up a place."""
        return self._accounts if self._places else ()

    def take_places(self) -> None:
        """Take up a place, whatever the limits are: a stream has come that had one at another process. Idempotent."""
        if not self._places:
            self._places = 1
            for account in self._accounts:
                account.connections += self._holders > 0
            self.took()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease for the time of a `with`. Several may; it ends with the last of them."""
        self._hold(1)
        try:
            yield
        finally:
            self._hold(-1)

    def _hold(self, more: int) -> None:
        was_held, self._holders = self._holders > 0, self._holders + more
        for account in self._accounts:
            account.connections += self._places * ((self._holders > 0) - was_held)
        if not self._holders:
            self.ended()


class Limits:
    """The accounts of those who are connected, and the rates of handshakes. For the event loop only.

    `total` counts the connections of all keys and addresses, loopback included: at most `most`.
    """

    def __init__(self, settings: LimitSettings, most: int) -> None:
        self._settings = settings
        self.total = Account("service", most)
        self._accounts: WeakValueDictionary[str, Account] = WeakValueDictionary()
        rate = settings.handshakes_per_minute
        self._handshakes = rate and Throttled(
            using=RateLimiterType.GCRA.value,
            quota=per_min(rate, burst=rate),
            store=MemoryStore(options={"MAX_SIZE": REMEMBERED}),
        )

    def count_handshake(self, kind: Kind, who: str) -> None:
        """Count a handshake of a key or an address. Raises Refused if there were too many in the last minute."""
        if self._handshakes:
            result = self._handshakes.limit(f"{kind} {who}")
            if result.limited:
                raise self.too_often(kind, result.state.retry_after)

    def too_often(self, kind: str, seconds: float) -> Refused:
        """Return what is told to one whose key or address has connected too often: when to try again."""
        text = f"more than {self._settings.handshakes_per_minute} connections a minute from this {kind}"
        return Refused(CloseCode.TOO_OFTEN, f"{text}: try again in {math.ceil(seconds)} s")

    def lease(self, address: str, key_name: str, *, is_resuming: bool) -> Lease:
        """Return a lease for an address and a key, each "" for none. Raises Refused if there are too many connections.

        A connection that resumes a stream takes up no place: its stream holds one already.
        """
        accounts = [self.total]
        if address:
            accounts.append(self._account("address", address, self._settings.sessions_per_address))
        if key_name:
            accounts.append(self._account("key", key_name, self._settings.sessions_per_key))
        lease = Lease(tuple(accounts), self._settings, key_name, takes_place=not is_resuming)
        self.check(lease)
        return lease

    def check(self, lease: Lease) -> None:
        """Raise Refused if there are too many connections for one more with this lease."""
        for account in lease.places:
            if 0 < account.most <= account.connections:
                raise crowded(account.kind, account.connections)

    def _account(self, kind: Kind, who: str, most: int) -> Account:
        return self._accounts.setdefault(f"{kind} {who}", Account(kind, most, who))


def limited_address(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64 that one network has. "" for loopback, which has no limits."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address and "unknown"  # all of these count as one: anybody can make up names, of any length
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return ""
    return str(ip) if isinstance(ip, IPv4Address) else str(ip_network((ip, 64), strict=False))
