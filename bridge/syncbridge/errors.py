"""How a bridge says no.

    BridgeError
    ├── Closed       you ended it, or the SDK finished: nothing more can go this way
    ├── Broken       the SDK failed; `__cause__` is its own exception
    └── Overloaded   no worker is free: try again later, or elsewhere

An SDK's failure reaches the reader of the responses as the SDK's own exception, unchanged.
"""

from __future__ import annotations


class BridgeError(Exception):
    """The root of what a bridge raises by itself."""


class Closed(BridgeError):
    """The bridge was ended or cancelled, or the SDK finished by itself. The item was not taken."""


class Broken(BridgeError):
    """The SDK failed. `__cause__` is its exception."""


class Overloaded(BridgeError):
    """Every worker of the pool is taken."""
