"""A scripted SDK: it does what a test orders, when the test orders it, and blocks in between, as a real SDK would."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 5.0  # seconds; nothing waits this long unless it is broken


class SdkError(Exception):
    """What the scripted SDK raises."""


class Aborted(Exception):
    """What it raises when it is aborted."""


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds. For state that another thread changes without a notification."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await checkpoint()


class Puppet:
    """A sync-generator SDK whose generator waits for the test's orders, until `abort` wakes it.

    Like Rev.ai's SDK, it can read its feed in a thread of its own: `pull` starts that. `taken` has the items read so
    far; `feed_ended` is set when the feed has ended.
    """

    def __init__(self) -> None:
        self.taken: list[object] = []
        self.feed_ended = threading.Event()
        self.closed_in: threading.Thread | None = None
        self.ran_in: list[threading.Thread] = []
        self.aborts = 0
        self._orders: SimpleQueue[object] = SimpleQueue()

    def say(self, response: object) -> None:
        self._orders.put(("say", response))

    def take(self) -> None:
        """Read one item of the feed, in the worker itself."""
        self._orders.put(("take",))

    def pull(self) -> None:
        self._orders.put(("pull",))

    def finish(self) -> None:
        self._orders.put(("finish",))

    def fail(self, error: BaseException) -> None:
        self._orders.put(("fail", error))

    def abort(self) -> None:
        self.aborts += 1
        self.fail(Aborted())

    def start(self, feed: Iterator[object]) -> Iterator[object]:
        self.ran_in.append(threading.current_thread())
        sender = threading.Thread(target=self._send, args=[feed], name="puppet-sender", daemon=True)
        try:
            while True:
                match self._orders.get(timeout=PATIENCE):
                    case ("say", response):
                        yield response
                    case ("take",):
                        self.taken.append(next(feed))
                    case ("pull",):
                        sender.start()
                    case ("finish",):
                        return
                    case ("fail", BaseException() as error):
                        raise error
        finally:
            self.closed_in = threading.current_thread()
            self.ran_in.append(threading.current_thread())

    def _send(self, feed: Iterator[object]) -> None:
        self.taken.extend(feed)
        self.feed_ended.set()
