"""Any sync-generator SDK as an async context manager. See README.md in the folder above."""

from syncbridge.bounded import Bounded
from syncbridge.bridge import Bridge, pump
from syncbridge.errors import BridgeError, Broken, Closed, Early, Overloaded, Stuck, WrongStart
from syncbridge.feed import queue_to_generator
from syncbridge.pool import WorkerPool
from syncbridge.resumable import Resumable, ResumeStatistics, Resumption
from syncbridge.ring import Ring
from syncbridge.start import yielding
from syncbridge.timer import Timer, Watch
from syncbridge.types import Abandoned, Attempt, Direction, Failed, Finished, Limits, Outcome, Start, State, Statistics

__all__ = [
    "Abandoned",
    "Attempt",
    "Bounded",
    "Bridge",
    "BridgeError",
    "Broken",
    "Closed",
    "Direction",
    "Early",
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
    "Timer",
    "Watch",
    "WorkerPool",
    "WrongStart",
    "pump",
    "queue_to_generator",
    "yielding",
]
