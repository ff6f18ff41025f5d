"""Client secrets: keys that live for minutes, which a server of one's own gets for its pages. In memory only.

A page's visitors can read whatever the page has, so it must not have an API key. Its server asks for a secret with that
key and hands it on. A secret opens every endpoint as its key does, under the limits of that key's owner, but one: it
cannot ask for another secret.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.openai import Settings
from speechbridge.server.limits import Refused

PREFIX = "ek_"  # of every secret
MOST = 4096  # of one owner at once: seven a second, of 600 s each. About 2 MB


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """What is known of a secret; its value is not kept."""

    owner: str  # of the API key
    expires_at: int  # seconds since the epoch
    settings: Settings  # that its sessions of OpenAI's protocol begin with


MakeSecret = Callable[[str, int, Settings], Awaitable[tuple[str, ClientSecret]]]
"""Makes a secret: see `ClientSecrets.make`."""


class ClientSecrets:
    """The secrets that have not expired. For the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._secrets: dict[str, ClientSecret] = {}  # by digest

    def make(self, owner: str, seconds: int, settings: Settings) -> tuple[str, ClientSecret]:
        """Return a new secret, and what is known of it. Raises Refused if its owner has too many."""
        now = self._clock()
        self._secrets = {digest: secret for digest, secret in self._secrets.items() if secret.expires_at > now}
        if sum(secret.owner == owner for secret in self._secrets.values()) >= MOST:
            raise Refused(CloseCode.CROWDED, f"this key has {MOST} client secrets: wait until some have expired")
        value = f"{PREFIX}{secrets.token_urlsafe(32)}"
        secret = self._secrets[_digest(value)] = ClientSecret(owner, int(now) + seconds, settings)
        return value, secret

    def find(self, value: str) -> ClientSecret | None:
        """Return what is known of a secret; None if it is none, or has expired."""
        secret = self._secrets.get(_digest(value))
        return secret if secret is not None and secret.expires_at > self._clock() else None


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
