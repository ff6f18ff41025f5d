"""Limits per API key and per client address: connections, handshakes a minute, bytes and messages a second.

Each key and each address has one `Account` while it is connected. Loopback addresses have none: a proxy on this machine
must name its clients (`SPEECHBRIDGE_TRUSTED_PROXIES`), otherwise only keys are limited. One more account counts all
connections of the service: streams, `/ws` and `/relay`.

What other replicas have received may be added to an account's count of a second: see `traffic`.

throttled is imported here only.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from speechbridge.cluster import Traffic
from speechbridge.loading import hidden
from speechbridge.protocol.close import Close, CloseCode

with hidden("redis"):  # throttled would import it where it is installed, which takes 6 MB; it is not used here
    from throttled import MemoryStore, RateLimiterType, Throttled, per_min

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from speechbridge.settings import LimitSettings

REMEMBERED = 2**16  # keys and addresses whose handshakes are counted: about 20 MB. The least recent is evicted first
RECENT_SECONDS = 5  # after traffic, an account's total over all replicas is asked for: longer than between two chunks

Kind = Literal["key", "address", "service"]


class Refused(Exception):
    """A connection is refused. `close` is the close frame for its client."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.close = Close(code, reason)


def excess(kind: Kind, size: int, messages: int, limits: LimitSettings) -> Close | None:
    """Return the close frame for a key or address that sent this much in a second; None if it was not too much."""
    if size > limits.bytes_per_second > 0:
        text = f"more than {limits.bytes_per_second} bytes a second from this {kind}: send slower"
        return Close(CloseCode.TOO_MANY_BYTES, text)
    if messages > limits.messages_per_second > 0:
        text = f"more than {limits.messages_per_second} messages a second from this {kind}: send longer ones"
        return Close(CloseCode.TOO_MANY_MESSAGES, text)
    return None


def crowded(kind: str, connections: int) -> Refused:
    """Return the refusal for a key, an address, or the whole service, with too many connections."""
    text = f"this {kind} has {connections} connections: try again when one has ended"
    return Refused(CloseCode.TOO_MANY if kind == "service" else CloseCode.CROWDED, text)


def pause(size: int, now: float, limits: LimitSettings) -> float:
    """Return for how many seconds to stop reading an upload whose bytes arrived too fast."""
    return max(1 - now % 1, size / (limits.bytes_per_second or size))


@dataclass(slots=True)
class Count:
    """What was received in one second, by its number."""

    second: int = 0
    size: int = 0
    messages: int = 0

    def of(self, second: int) -> Traffic:
        return Traffic(self.size, self.messages) if self.second == second else Traffic()


@dataclass(slots=True, weakref_slot=True)
class Account:
    """The current use of a key or an address, or of the whole service."""

    kind: Kind
    most: int  # limit of connections at once; 0: no limit
    who: str = ""
    connections: int = 0
    _even: Count = field(default_factory=Count)  # the current second, or the one before
    _odd: Count = field(default_factory=Count)  # likewise
    _others: Count = field(default_factory=Count)  # what other replicas have received

    @property
    def name(self) -> str:
        return f"{self.kind} {self.who}"

    def count(self, size: int, messages: int, second: int, limits: LimitSettings) -> Close | None:
        """Count bytes and messages; return a close frame if that was too much for one second."""
        own, others = self._of(second), self._others
        if second != own.second:
            own.second, own.size, own.messages = second, 0, 0
        own.size += size
        own.messages += messages
        if second != others.second:
            return excess(self.kind, own.size, own.messages, limits)
        return excess(self.kind, own.size + others.size, own.messages + others.messages, limits)

    def received(self, second: int) -> Traffic:
        """Return what was received here in the current second, or in the one before."""
        return self._of(second).of(second)

    def is_recent(self, second: int) -> bool:
        """Tell whether there was any traffic in the RECENT_SECONDS before a second, or since then."""
        return max(self._even.second, self._odd.second) >= second - RECENT_SECONDS

    def add_others(self, second: int, traffic: Traffic) -> None:
        """Count what other replicas have received as if it had been received here in this second."""
        self._others = Count(second, *traffic)

    def _of(self, second: int) -> Count:
        return self._odd if second % 2 else self._even


class Lease:
    """The right to one connection. It counts as one connection in its accounts for as long as it has a holder.

    Its connection holds it, and so does a resumable stream, which may outlive that connection. `ended` is called when
    the last holder has released it.
    """

    def __init__(
        self,
        accounts: tuple[Account, ...],
        limits: LimitSettings,
        owner: str = "",
        *,
        takes_place: bool,
        offset: float = 0.0,
    ) -> None:
        self.owner = owner  # of the key; "" if no key is needed
        self._accounts = accounts
        self._limits = limits
        self._places = int(takes_place)
        self._offset = offset  # of the clock that numbers seconds
        self._holders = 0
        self.ended: Callable[[], object] = lambda: None
        self.took: Callable[[], object] = lambda: None  # called when `take_places` has taken places
        self.metered = [account for account in accounts if account.kind != "service"]
        self.is_metered = bool(self.metered and (limits.bytes_per_second or limits.messages_per_second))

    def count(self, size: int, messages: int, now: float) -> Close | None:
        """Count bytes and messages at a time in seconds; return a close frame if that was too much.

        Each fragment, ping and pong counts as a message.
        """
        second, verdict = int(now + self._offset), None
        for account in self.metered:
            verdict = account.count(size, messages, second, self._limits) or verdict
        return verdict

    def pause(self, size: int, now: float) -> float:
        """Count bytes of an upload at a time in seconds; return for how many seconds to stop reading it."""
        if not self.is_metered or self.count(size, 0, now) is None:
            return 0.0
        return pause(size, now + self._offset, self._limits)

    @property
    def places(self) -> tuple[Account, ...]:
        """The accounts in which it counts as a connection."""
        return self._accounts if self._places else ()

    def take_places(self) -> None:
        """Count as a connection, whatever the limits are: for a stream taken over from another process. Idempotent."""
        if not self._places:
            self._places = 1
            for account in self._accounts:
                account.connections += self._holders > 0
            self.took()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease within a `with` block. There may be several holders; the lease ends with the last one."""
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
    """The accounts of connected keys and addresses, and the rates of handshakes. For the event loop only.

    `total` counts the connections of all keys and addresses, including loopback; its limit is `most`.
    """

    def __init__(self, settings: LimitSettings, most: int) -> None:
        self._settings = settings
        self._offset = 0.0
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
        """Return the refusal for a key or an address that has connected too often; it says when to try again."""
        text = f"more than {self._settings.handshakes_per_minute} connections a minute from this {kind}"
        return Refused(CloseCode.TOO_OFTEN, f"{text}: try again in {math.ceil(seconds)} s")

    def lease(self, address: str, key_name: str, *, is_resuming: bool) -> Lease:
        """Return a lease for an address and a key, each "" for none. Raises Refused if there are too many connections.

        A connection that resumes a stream is not counted: its stream is counted already.
        """
        accounts = [self.total]
        if address:
            accounts.append(self._account("address", address, self._settings.sessions_per_address))
        if key_name:
            accounts.append(self._account("key", key_name, self._settings.sessions_per_key))
        lease = Lease(tuple(accounts), self._settings, key_name, takes_place=not is_resuming, offset=self._offset)
        self.check(lease)
        return lease

    def check(self, lease: Lease) -> None:
        """Raise Refused if there are too many connections for one more with this lease."""
        for account in lease.places:
            if 0 < account.most <= account.connections:
                raise crowded(account.kind, account.connections)

    # ---- the interface `traffic.OwnTraffic` --------------------------------------------------------------------------

    def align(self, offset: float) -> None:
        self._offset = offset

    def received(self, second: int) -> dict[str, Traffic]:
        recent = {name: account for name, account in self._accounts.items() if account.is_recent(second)}
        return {name: account.received(second) for name, account in recent.items()}

    def add_others(self, second: int, others: Mapping[str, Traffic]) -> None:
        for name, traffic in others.items():
            if (account := self._accounts.get(name)) is not None:
                account.add_others(second, traffic)

    def _account(self, kind: Kind, who: str, most: int) -> Account:
        return self._accounts.setdefault(f"{kind} {who}", Account(kind, most, who))


def limited_address(address: str) -> str:
    """Return what counts as one address: for IPv6 the network's /64; "" for loopback, which has no limits."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address and "unknown"  # all of these count as one, because anybody can invent names
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return ""
    return str(ip) if isinstance(ip, IPv4Address) else str(ip_network((ip, 64), strict=False))
