"""The errors of this package.

    BridgeError
    ├── Closed       you ended the bridge, or the SDK finished: nothing more can be sent
    ├── Broken       the SDK failed; `__cause__` is its own exception
    ├── Overloaded   no worker is free: try again later, or elsewhere
    ├── Early        the SDK's responses ended before its input was ended and all taken
    ├── Stuck        an attempt of a resumable stream did not answer in time, and was aborted
    └── WrongStart   the start function is not a sync generator, or yields the wrong type; a TypeError, too

An SDK's failure reaches the reader of the responses as the SDK's own exception, unchanged.
"""

from __future__ import annotations


class BridgeError(Exception):
    """The root of what this package raises by itself."""


class Closed(BridgeError):
    """The bridge was ended or cancelled, or the SDK finished by itself. The item was not taken."""


class Broken(BridgeError):
    """The SDK failed. `__cause__` is its exception."""


class Overloaded(BridgeError):
    """Every worker of the pool is taken."""


class WrongStart(BridgeError, TypeError):
    """What was given as `start` is not what a bridge takes. The text names the mistake and what to change."""


class Early(BridgeError):
    """The SDK's responses ended, without an error, before its input was ended and all taken: the rest was not heard."""


class Stuck(BridgeError):
    """An attempt did not answer in time, or did not go on, and was aborted. `__cause__` is its SDK's error, if any."""
