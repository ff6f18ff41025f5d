"""The errors of this package.

    BridgeError
    ├── Closed       you ended the bridge, or the SDK finished: nothing more can be sent
    ├── Broken       the SDK failed; `__cause__` is its own exception
    ├── Overloaded   no worker is free: try again later, or elsewhere
    ├── Early        the SDK's responses ended before the input did, or before the SDK had taken all input
    ├── Stuck        the SDK did not answer in time, and was aborted
    └── WrongStart   the start function is not a sync generator, or yields the wrong type; also a TypeError

When an SDK fails, the reader of the responses gets the SDK's own exception, unchanged.
"""

from __future__ import annotations


class BridgeError(Exception):
    """The root of this package's own errors."""


class Closed(BridgeError):
    """The bridge was ended or cancelled, or the SDK finished by itself. The item was not taken."""


class Broken(BridgeError):
    """The SDK failed. `__cause__` is its exception."""


class Overloaded(BridgeError):
    """Every worker of the pool is in use."""


class WrongStart(BridgeError, TypeError):
    """What was given as `start` is not what a bridge takes. The text names the mistake and what to change."""


class Early(BridgeError):
    """The SDK's responses ended, without an error, before the input did, or before the SDK had taken all input."""


class Stuck(BridgeError):
    """The SDK did not answer in time, or did not go on, and was aborted. `__cause__` is the SDK's error, if any."""
