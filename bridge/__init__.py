"""Any sync-generator SDK as an async context manager. See README.md beside this file."""

from bridge.bridge import Bridge, pump
from bridge.errors import BridgeError, Broken, Closed, Overloaded
from bridge.feed import queue_to_generator
from bridge.pool import WorkerPool
from bridge.resume import Resumable, ResumeStatistics, Resumption, Stuck
from bridge.ring import Ring
from bridge.types import Abandoned, Attempt, Direction, Failed, Finished, Limits, Outcome, Start, State, Statistics

__all__ = [
    "Abandoned",
    "Attempt",
    "Bridge",
    "BridgeError",
    "Broken",
    "Closed",
    "Direction",
    "Failed",
    "Finished",
    "Limits",
    "Outcome",
    "Overloaded",
    "Resumable",
    "ResumeStatistics",
    "Resumption",
    "Ring",
    "Start",
    "State",
    "Statistics",
    "Stuck",
    "WorkerPool",
    "pump",
    "queue_to_generator",
]
