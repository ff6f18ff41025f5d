"""Decides who may connect. It does not deal with sockets or HTTP.

A handshake is checked in this order, and the first failure is reported to the client:

    origin             a browser names the page whose script connects. If any page could connect, any website could use
                       the service through its visitor's browser (cross-site WebSocket hijacking)
    rate, by address   handshakes a minute. It is checked before the key, so that guessing keys is slow
    key                must be one of the configured keys, if there are any
    rate, by key       handshakes a minute
    connections        at once, by address and by key

Later, the client's traffic counts towards the limits of its address and of its key: `speechbridge.server.limits`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from speechbridge.protocol.address import is_loopback
from speechbridge.protocol.close import CloseCode
from speechbridge.server.client_secrets import ClientSecrets
from speechbridge.server.limits import Limits, Refused, limited_address
from speechbridge.settings import WrongSetting, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechbridge.server.limits import Lease
    from speechbridge.settings import AccessSettings

LINE = re.compile(r"(?P<name>[\w.@-]{1,64}):(?P<digest>[0-9a-f]{64})")


def make_key(name: str) -> tuple[str, str]:
    """Generate a key; return it, and the line for the settings. Raises ValueError for a name that is not allowed.

    The line holds a plain SHA-256. Nobody can guess 256 random bits, so a slower hash would not be any safer.
    """
    key = secrets.token_urlsafe(32)
    line = f"{name}:{_digest(key)}"
    if not LINE.fullmatch(line):
        raise ValueError(f"{name!r} cannot name a key: use letters, digits, and . _ @ - (64 at most)")
    return key, line


class WrongKeyLine(ValueError):
    """A line does not have the form that `make_key` prints. The line may be a key, so only its `index` is shown."""

    def __init__(self, index: int) -> None:
        super().__init__(f"line {index + 1} is not of the form NAME:SHA256")
        self.index = index


class Keys:
    """The keys that may connect, each with the name of its owner. Empty: no key is needed."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Raise WrongKeyLine for a line of another form than those of `make_key`."""
        self._names: dict[str, str] = {}  # by digest
        for index, line in enumerate(lines):
            found = LINE.fullmatch(line)
            if found is None:
                raise WrongKeyLine(index)
            self._names[found["digest"]] = found["name"]

    def __bool__(self) -> bool:
        return bool(self._names)

    def name(self, key: str) -> str | None:
        """Return the name of a key's owner, None for an unknown key. Its duration reveals nothing about the keys."""
        digest = _digest(key)
        found = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Origins:
    """The origins of pages that may connect. Scheme, host and port must match.

    The service's own page may always connect, if its host name cannot be an attacker's: on loopback, or if a key is
    needed anyway (`keyed`). Otherwise any page could pass as ours by DNS rebinding.
    """

    def __init__(self, origins: Sequence[str], *, keyed: bool) -> None:
        self._allowed = {_normal(origin) for origin in origins}
        self._keyed = keyed

    def allow(self, origins: Sequence[str], host: str, *, has_cookie: bool) -> bool:
        """Check the Origin headers of a handshake that was sent to `host`.

        A client without Origin is not a browser, unless it sends cookies: then it is a browser that hides its origin.
        """
        if not origins:
            return not has_cookie
        if len(origins) > 1 or origins[0] == "null":
            return False
        origin = _normal(origins[0])
        return origin in self._allowed or self._is_own(origin, host)

    def _is_own(self, origin: str, host: str) -> bool:
        own = {_normal(f"{scheme}://{host}") for scheme in ("http", "https")}
        if origin not in own:
            return False
        try:
            return self._keyed or is_loopback(urlsplit(origin).hostname or "")
        except ValueError:  # as in "http://[": any client may send that
            return False


def _normal(origin: str) -> str:
    """Return an origin in its normal form. Any other text is returned as it is, and equals only itself."""
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
class Handshake:
    """What is known of a client from its handshake."""

    origins: Sequence[str] = ()  # the Origin headers; a browser sends one at most
    host: str = ""  # the Host header
    has_cookie: bool = False
    address: str = ""
    key: str = field(default="", repr=False)
    is_resuming: bool = False  # it resumes a stream, which holds a lease already
    takes_secrets: bool = True  # a client secret is accepted instead of a key


class Admission:
    """Decides which handshakes may connect. For the event loop only."""

    def __init__(self, settings: AccessSettings) -> None:
        """Raise WrongSetting for a malformed line of a key, and if other machines could connect without a key."""
        try:
            self.keys = Keys(split(settings.api_keys.get_secret_value()))
        except WrongKeyLine as error:
            form = "is not of the form NAME:SHA256, as `speechbridge key NAME` prints it"
            raise WrongSetting(f"{settings.place_of_key(error.index)} {form}") from None
        if not self.keys and not settings.is_private:
            name = "SPEECHBRIDGE_PUBLISHED_ON" if settings.published_on else "SPEECHBRIDGE_HOST"
            where = settings.published_on or settings.host
            cure = (
                "put the line that `speechbridge key NAME` prints into SPEECHBRIDGE_API_KEYS, or into the file that"
                " SPEECHBRIDGE_API_KEYS_FILE names"
            )
            if not settings.published_on:  # in a container the host does not show who can reach the service
                cure += "; if it is published on this machine only, set SPEECHBRIDGE_PUBLISHED_ON=127.0.0.1"
            raise WrongSetting(f"{name}: others can reach {where} without an API key: {cure}")
        self.origins = Origins(split(settings.origins), keyed=bool(self.keys))
        self.limits = Limits(settings, settings.most_connections)
        self.secrets = ClientSecrets()

    def may_share(self, handshake: Handshake) -> bool:
        """Tell whether a browser's page may read the answers to its requests (CORS)."""
        return bool(handshake.origins) and self.origins.allow(handshake.origins, handshake.host, has_cookie=False)

    def admit(self, handshake: Handshake, counted: list[str] | None = None) -> Lease:
        """Check a handshake; return a lease, which the caller must hold at once, without an await. Raises Refused.

        The names of the accounts whose handshakes were counted are added to `counted`, even if it is refused.
        """
        address, name = limited_address(handshake.address), ""
        counted = [] if counted is None else counted
        if not self.origins.allow(handshake.origins, handshake.host, has_cookie=handshake.has_cookie):
            text = "pages of this origin may not connect: add it to SPEECHBRIDGE_ORIGINS"
            raise Refused(CloseCode.FOREIGN, text)
        if address:
            self.limits.count_handshake("address", address)
            counted.append(f"address {address}")
        if self.keys:
            name = self._owner(handshake)
            self.limits.count_handshake("key", name)
            counted.append(f"key {name}")
        return self.limits.lease(address, name, is_resuming=handshake.is_resuming)

    def _owner(self, handshake: Handshake) -> str:
        key = handshake.key
        name = self.keys.name(key)
        if name is None and (secret := self.secrets.find(key)) is not None:
            if handshake.takes_secrets:
                return secret.owner
            raise Refused(CloseCode.UNAUTHORIZED, "a client secret connects, and can do nothing else: send an API key")
        if name is None:
            what = "this API key is not known" if key else "an API key is needed"
            raise Refused(CloseCode.UNAUTHORIZED, f"{what}: send it as access_token or Authorization: Bearer")
        return name
