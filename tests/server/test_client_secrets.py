"""Secrets that expire, are bounded in number, and are not kept."""

from __future__ import annotations

import pytest

from speechbridge.protocol.openai import Settings
from speechbridge.server import client_secrets
from speechbridge.server.client_secrets import ClientSecrets
from speechbridge.server.limits import Refused


def test_a_secret_is_found_until_it_expires() -> None:
    now = 1000.5
    kept = ClientSecrets(lambda: now)
    value, secret = kept.make("alice", 600, Settings())
    assert kept.find(value) == secret
    assert (secret.owner, secret.expires_at) == ("alice", 1600)
    assert kept.find(value + "x") is None
    assert value not in repr(kept.__dict__)
    now = 1600.0
    assert kept.find(value) is None


def test_one_owner_has_so_many_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_secrets, "MOST", 2)
    now = 0.0
    kept = ClientSecrets(lambda: now)
    for seconds in (10, 20):
        kept.make("alice", seconds, Settings())
    with pytest.raises(Refused):
        kept.make("alice", 10, Settings())
    kept.make("bob", 10, Settings())
    now = 10.0
    kept.make("alice", 10, Settings())
    assert len(kept._secrets) == 2
