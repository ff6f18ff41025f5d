"""Any sync-generator SDK as an async context manager. See README.md beside this file."""

from bridge.bridge import Bridge, pump
from bridge.errors import BridgeError, Broken, Closed, Overloaded
from bridge.feed import queue_to_generator
from bridge.pool import WorkerPool
from bridge.types import Abandoned, Failed, Finished, Limits, Outcome, Start, State, Statistics

__all__ = [
    "Abandoned",
    "Bridge",
    "BridgeError",
    "Broken",
    "Closed",
    "Failed",
    "Finished",
    "Limits",
    "Outcome",
    "Overloaded",
    "Start",
    "State",
    "Statistics",
    "WorkerPool",
    "pump",
    "queue_to_generator",
]
