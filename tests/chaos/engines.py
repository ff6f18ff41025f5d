"""Break Google's and Riva's services while many streams with rotation run, and count what is lost.

The SDKs are the real ones, the services are fakes from their protos. For example:
python -m tests.chaos.engines --streams 20 --minutes 10 --pace 10 --seed 1
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import TYPE_CHECKING

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from speechbridge.protocol.request import PATH, ContentType, StreamRequest
from tests.chaos.__main__ import HEAD, parser, row, service
from tests.helpers.crowd import Crowd
from tests.helpers.grpc_services import DIALECTS, FAULTS, Counting, grpc, name_of, serving, settings_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from tests.helpers.crowd import Result
    from tests.helpers.grpc_services import Call, SpeechResult

REFUSALS = {"UNAUTHENTICATED": 4001, "PERMISSION_DENIED": 4001, "INVALID_ARGUMENT": 4002, "NOT_FOUND": 4002}
AT_ONCE = 5.0  # seconds within which a refusal must reach its client, on a busy machine
FREE_SECONDS = 10.0  # for slots and threads to be released, once all streams are over


def arguments() -> argparse.Namespace:
    made = parser("python -m tests.chaos.engines", __doc__.partition("\n")[0], every=10.0, lifetime=30.0)
    made.add_argument("--service", action="append", choices=DIALECTS, help="may be given several times")
    made.add_argument("--fault", action="append", choices=FAULTS, help="may be given several times (default: all)")
    return made.parse_args()


class Refusing:
    """A handler that refuses clients whose vocabulary is the name of a status; another handler serves all others."""

    def __init__(self, handle: Callable[[Call], Iterator[SpeechResult]]) -> None:
        self.calls: Counter[str] = Counter()
        self._handle = handle

    def __call__(self, call: Call) -> Iterator[SpeechResult]:
        name = name_of(call.config)
        if name in REFUSALS:
            self.calls[name] += 1
            call.context.abort(grpc.StatusCode[name], "no")
        yield from self._handle(call)


@dataclass
class Refused:
    """Clients that connect one after the other while streams run, and must be refused at once, each with its code."""

    clients: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    slowest: float = 0.0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_trying(self, url: str) -> None:
        """Connect such clients until `is_over` is set."""
        for status in cycle(REFUSALS):
            if self.is_over.is_set():
                return
            begun = time.monotonic()
            self.clients[status] += 1
            query = StreamRequest(ContentType.raw(), {"custom_vocabulary_id": status}).query()
            async with connect(f"{url}{PATH}?{query}", proxy=None) as socket:
                with suppress(ConnectionClosed):
                    await socket.send(bytes(32000))
                    while True:
                        await socket.recv()
            took = time.monotonic() - begun
            self.slowest = max(self.slowest, took)
            if socket.close_code != REFUSALS[status] or took > AT_ONCE:
                self.trouble.append(f"{status} closed with {socket.close_code} after {took:.1f} s")
            await asyncio.sleep(1.0)

    def compare(self, calls: Counter[str]) -> None:
        """Compare with the calls that the service received: no refusal may be retried."""
        if calls != self.clients:
            self.trouble.append(f"refused clients {dict(self.clients)}, calls {dict(calls)}")


async def run(name: str, options: argparse.Namespace) -> tuple[Result, str, Refused]:
    crowd = Crowd(options.streams, options.minutes * 60, tuple(options.fault or FAULTS), options.every, options.seed)
    counting, refused = Counting(crowd.streams), Refused()
    refusing = Refusing(counting)
    timeouts = {"answer_seconds": 60, "upstream_silence": 1, "upstream_lifetime": options.lifetime / options.pace}
    with serving(DIALECTS[name](), refusing) as address:
        async with service(
            **settings_for(name, address), max_sessions=options.streams + 1, log_level="error", **timeouts
        ) as url:
            trying = asyncio.create_task(refused.keep_trying(url))
            try:
                result = await crowd.talk(url, options.pace)
            finally:
                refused.is_over.set()
                await trying
            left = await taken(url.replace("ws://", "http://"))
            refused.compare(refusing.calls)
            return result, left, refused


async def taken(url: str) -> str:
    """Return which slots and threads stay in use after the streams; empty if none does."""
    wanted = {"sessions_active": "0.0", 'worker_threads{state="running"}': "0.0"}
    wanted['worker_threads{state="abandoned"}'] = "0.0"
    begun = time.monotonic()
    async with httpx2.AsyncClient(trust_env=False) as client:
        for _ in count():
            text = (await client.get(f"{url}/metrics")).text
            found = dict(line.removeprefix("speechbridge_").rsplit(" ", 1) for line in _figures(text))
            wrong = [f"{name} {found.get(name)}" for name, figure in wanted.items() if found.get(name) != figure]
            if not wrong or time.monotonic() - begun > FREE_SECONDS:
                return ", ".join(wrong)
            await asyncio.sleep(0.2)
    raise AssertionError


def _figures(text: str) -> Iterator[str]:
    return (line for line in text.splitlines() if line.startswith("speechbridge_"))


def main() -> None:
    options = arguments()
    options.seed = time.time_ns() % 10**6 if options.seed is None else options.seed
    print(
        f"{options.streams} streams of {options.minutes:g} min at {options.pace:g} x real time, a break about every"
        f" {options.every:g} s of audio, a rotation every {options.lifetime:g} s; --seed {options.seed} replays it\n"
    )
    head = (
        "service",
        *HEAD[1:],
        "cut words",
        "cut, received by no client",
        "still in use",
        "refused",
        "slowest refusal, s",
    )
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    failed = False
    for name in options.service or DIALECTS:
        result, left, refused = asyncio.run(run(name, options))
        refusals = f"{sum(refused.clients.values())}", f"{refused.slowest:.2f}"
        cells = (*row(name, result), *result.cut, left or "nothing", *refusals)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        trouble = [*result.trouble, *refused.trouble]
        if untrue := result.count(lambda received: received.untrue + received.cut):
            trouble.append(f"{untrue} times are wrong by 50 ms or more, or words are cut")
        for text in trouble:
            print(f"  {text}", flush=True)
        failed = failed or bool(trouble or left)
    sys.exit(failed)


if __name__ == "__main__":
    main()
