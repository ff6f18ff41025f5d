"""Stop and restart the first engine's service again and again while streams with a fallback run; count what is lost.

Google's SDK is the first engine, Riva's the fallback, each with a fake of its service. For example:
python -m tests.chaos.fallback --streams 20 --minutes 5 --times 10
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from typing import TYPE_CHECKING

from tests.chaos.__main__ import service
from tests.chaos.engines import taken
from tests.helpers.crowd import Crowd
from tests.helpers.grpc_services import DIALECTS, Counting, name_of, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.breaking_upstream import Stream
    from tests.helpers.crowd import Result
    from tests.helpers.grpc_services import Call, SpeechResult

FIRST, SECOND = "google v2", "riva"
HEAD = (
    *("first", "fallback", "streams", "deaths", "breaks", "connections to the first", "to the fallback"),
    *("lost", "doubled", "cut words", "cut, received by no client", "wrong times", "still in use", "worst s", "ran s"),
)


class Side:
    """One of the two services, and which streams it serves at the moment."""

    def __init__(self, counting: Counting, streams: dict[str, Stream]) -> None:
        self.calls = 0
        self.is_called = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._counting = counting
        self._streams = streams
        self._here: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Iterator[SpeechResult]:
        name = name_of(call.config)
        with self._lock:
            self.calls += 1
            self._here.add(name)
        self._loop.call_soon_threadsafe(self.is_called.set)
        try:
            yield from self._counting(call)
        finally:
            with self._lock:
                self._here.discard(name)

    def note_breaks(self) -> None:
        """Note a break for all streams that it serves."""
        with self._lock:
            for name in self._here:
                stream = self._streams[name]
                stream.note_break("death", len(stream.given) - 1)


async def dying(first: Side, times: int, seconds: float, addresses: asyncio.Queue[str]) -> None:
    """Serve in the first half of each period, at least until a stream returns; then stop for half a period."""
    port = 0
    for _ in range(times):
        with serving(DIALECTS[FIRST](), first, port) as address:
            port = int(address.rpartition(":")[2])
            addresses.put_nowait(address)
            first.is_called.clear()
            await asyncio.gather(first.is_called.wait(), asyncio.sleep(seconds / times / 2))
            first.note_breaks()
        await asyncio.sleep(seconds / times / 2)
    with serving(DIALECTS[FIRST](), first, port):
        await asyncio.Event().wait()


async def run(options: argparse.Namespace) -> tuple[Result, tuple[Side, Side], str]:
    crowd = Crowd(options.streams, options.minutes * 60)
    counting = Counting(crowd.streams)
    first, second = Side(counting, crowd.streams), Side(counting, crowd.streams)
    addresses: asyncio.Queue[str] = asyncio.Queue()
    life = asyncio.create_task(dying(first, options.times, options.minutes * 60 / options.pace, addresses))
    try:
        with serving(DIALECTS[SECOND](), second) as spare:
            settings = settings_for(FIRST, await addresses.get()) | settings_for(SECOND, spare)
            settings |= {"engine": "google", "fallback": "riva", "max_sessions": options.streams, "log_level": "error"}
            async with service(**settings) as url:
                result = await crowd.talk(url, options.pace)
                return result, (first, second), await taken(url.replace("ws://", "http://"))
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m tests.chaos.fallback", description=__doc__.partition("\n")[0])
    made.add_argument("--streams", type=int, default=20)
    made.add_argument("--minutes", type=float, default=5.0, help="of audio in each stream (default: %(default)g)")
    made.add_argument("--pace", type=float, default=1.0, help="multiple of real time (default: %(default)g)")
    made.add_argument("--times", type=int, default=10, help="stops of the first service (default: %(default)d)")
    options = made.parse_args()
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    result, sides, left = asyncio.run(run(options))
    untrue = result.count(lambda received: received.untrue)
    cells = (
        *(FIRST, SECOND, len(result.streams), options.times, sum(result.breaks.values())),
        *(side.calls for side in sides),
        f"{result.lost_samples} samples, {result.count(lambda received: received.missing)} words",
        result.count(lambda received: received.doubled),
        *result.cut,
        untrue,
        left or "nothing",
        f"{result.worst():.1f}",
        f"{result.seconds:.0f}",
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    for trouble in result.trouble:
        print(f"  {trouble}", flush=True)
    sys.exit(bool(result.trouble or left or result.cut[0] or untrue or not all(side.calls for side in sides)))


if __name__ == "__main__":
    main()
