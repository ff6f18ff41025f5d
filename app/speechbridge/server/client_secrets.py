"""Client secrets: keys that are valid for minutes, which a web server requests for its pages. In memory only.

A page's visitors can read everything that the page contains, so it must not contain an API key. Instead, its server
uses the key to request a secret, and gives the secret to the page. A secret is accepted by every endpoint, under the
limits of the key's owner, except that it cannot be used to request another secret.
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
MOST = 4096  # secrets of one owner at once: seven a second, each valid for 600 s. About 2 MB


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A secret, without its value, which is not stored."""

    owner: str  # of the API key
    expires_at: int  # seconds since the epoch
    settings: Settings  # the initial settings of its sessions of OpenAI's protocol


MakeSecret = Callable[[str, int, Settings], Awaitable[tuple[str, ClientSecret]]]
"""Makes a secret: see `ClientSecrets.make`."""


class ClientSecrets:
    """The secrets that have not expired. For the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._secrets: dict[str, ClientSecret] = {}  # by digest

    def make(self, owner: str, seconds: int, settings: Settings) -> tuple[str, ClientSecret]:
        """Return a new secret's value, and the secret. Raises Refused if its owner has too many."""
        now = self._clock()
        self._secrets = {digest: secret for digest, secret in self._secrets.items() if secret.expires_at > now}
        if sum(secret.owner == owner for secret in self._secrets.values()) >= MOST:
            raise Refused(CloseCode.CROWDED, f"this key has {MOST} client secrets: wait until some have expired")
        value = f"{PREFIX}{secrets.token_urlsafe(32)}"
        secret = self._secrets[_digest(value)] = ClientSecret(owner, int(now) + seconds, settings)
        return value, secret

    def find(self, value: str) -> ClientSecret | None:
        """Return the secret of a value; None if there is none, or it has expired."""
        secret = self._secrets.get(_digest(value))
        return secret if secret is not None and secret.expires_at > self._clock() else None


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
