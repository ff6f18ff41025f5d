"""Canary tests: they fail when a release changes code of another project that ours overrides or relies on."""

from __future__ import annotations

import inspect
import pkgutil
from hashlib import sha256


def fingerprint(name: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a function's source, by its `module:qualified.name`."""
    return sha256(inspect.getsource(pkgutil.resolve_name(name)).encode()).hexdigest()[:16]


def check(name: str, known: str, ours: str) -> None:
    """Fail if the source of a function has changed. `ours` is the file of ours that depends on it."""
    found = fingerprint(name)
    assert found == known, (
        f"{name} has changed with a release: check whether {ours} still fits it, then write {found!r} here"
    )
