"""The matrix: each of the five waits is entered, then the bridge ends in each of its ways. No wait may last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest

from syncbridge import Bridge, Broken, Closed, Early, Finished, Limits, WorkerPool
from tests.helpers.puppet import PATIENCE, Puppet, SdkError, until

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class BodyError(Exception):
    """An error of the body itself."""


class Scene:
    """A bridge with room for one item each way, in front of a scripted SDK, and a task or thread that waits."""

    def __init__(self) -> None:
        self.puppet = Puppet()
        self.pool = WorkerPool(1)
        self.bridge: Bridge[object, object] = Bridge(
            self.puppet.start,
            abort=self.puppet.abort,
            limits=Limits(inbound=1, outbound=1, grace=PATIENCE),
            pool=self.pool,
        )
        self.waiter: asyncio.Task[object]
        self.in_body = asyncio.Event()
        self.heard: list[object] = []

    def _spawn(self, coroutine: Coroutine[Any, Any, object]) -> None:
        self.waiter = asyncio.create_task(coroutine)

    async def enter(self, wait: str) -> None:
        match wait:
            case "send":
                await self.bridge.send("first")
                self._spawn(self.bridge.send("second"))
                await until(lambda: self.bridge._inbound.loop_waiting)
            case "feed":
                self.puppet.pull()
                await until(lambda: self.bridge._inbound.thread_waiting)
            case "put":
                self.puppet.say("first")
                self.puppet.say("second")
                await until(lambda: self.bridge._outbound.thread_waiting)
            case "receive":
                self._spawn(self.bridge.__anext__())
                await until(lambda: self.bridge._outbound.loop_waiting)
            case "inside the sdk":
                await until(lambda: self.puppet.ran_in)

    async def live(self, wait: str, end: str) -> None:
        """Enter the wait, let the end come, and read what is left."""
        async with self.bridge as bridge:
            await self.enter(wait)
            match end:
                case "end":
                    bridge.end()
                    if wait == "send":
                        self.puppet.take()
                    self.puppet.finish()
                case "sdk finishes":
                    self.puppet.finish()
                case "sdk raises":
                    self.puppet.fail(SdkError())
                case "cancel":
                    bridge.cancel()
                case "body raises":
                    raise BodyError
                case "task cancelled":
                    self.in_body.set()
                    await asyncio.Event().wait()
            if wait == "receive":  # somebody else reads
                await asyncio.wait([self.waiter])
                return
            async for response in bridge:
                self.heard.append(response)


@dataclass(frozen=True)
class Expected:
    body: type[BaseException] | None  # what leaves the `async with`; None: all the responses came
    sender: type[BaseException]  # what a waiting send() raises
    reader: type[BaseException]  # what a waiting `async for` raises
    aborts: bool = False


ENDS = {
    "end": Expected(None, Closed, StopAsyncIteration),
    "sdk finishes": Expected(Early, Closed, Early),
    "sdk raises": Expected(SdkError, Broken, SdkError),
    "cancel": Expected(Closed, Closed, Closed, aborts=True),
    "body raises": Expected(BodyError, Closed, Closed, aborts=True),
    "task cancelled": Expected(asyncio.CancelledError, Closed, Closed, aborts=True),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("wait", ["send", "feed", "put", "receive", "inside the sdk"])
async def test_every_wait_is_woken_by_every_end(wait: str, end: str) -> None:
    """Invariant 4; and 2, 3, 7 and 8 for each pair of a wait and an end."""
    scene, expected = Scene(), ENDS[end]
    task = asyncio.create_task(scene.live(wait, end))
    if end == "task cancelled":
        await scene.in_body.wait()
        task.cancel()
    with anyio.fail_after(PATIENCE):
        [left_with] = await asyncio.gather(task, return_exceptions=True)

    assert scene.pool.active == 0
    assert (scene.puppet.aborts > 0) == expected.aborts
    if end in ("end", "sdk finishes"):
        assert scene.bridge.outcome == Finished()
        assert scene.heard == (["first", "second"] if wait == "put" else [])
    if expected.body is None or (wait == "receive" and end in ("sdk finishes", "sdk raises", "cancel")):
        assert left_with is None
    else:
        assert isinstance(left_with, expected.body)
    if wait == "feed":
        assert scene.puppet.feed_ended.wait(PATIENCE)
    if wait in ("send", "receive"):
        with anyio.fail_after(PATIENCE), pytest.raises(expected.sender if wait == "send" else expected.reader):
            await scene.waiter
