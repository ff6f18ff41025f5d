"""Canaries: they fail when the code of somebody else, which ours overrides or relies on, changes with a release."""

from __future__ import annotations

import inspect
import pkgutil
from hashlib import sha256


def fingerprint(name: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a function's source, by its `module:qualified.name`."""
    return sha256(inspect.getsource(pkgutil.resolve_name(name)).encode()).hexdigest()[:16]


def check(name: str, known: str, ours: str) -> None:
    """Fail if a function is not the one that was read. `ours` is the file of ours to read beside it."""
    found = fingerprint(name)
    assert found == known, (
        f"{name} has changed with a release: read it again beside what {ours} says of it, then write {found!r} here"
    )
