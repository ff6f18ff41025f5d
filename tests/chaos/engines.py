"""Break Google's and Riva's services under many streams, with rotations in between, and count what is lost.

The SDKs are the real ones, the services are servers of their own protos. For example:
python -m tests.chaos.engines --streams 20 --minutes 10 --pace 10 --seed 1
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count
from typing import TYPE_CHECKING

import httpx2

from tests.chaos.__main__ import HEAD, parser, row, service
from tests.helpers.crowd import Crowd
from tests.helpers.grpc_services import DIALECTS, FAULTS, Counting, serving, settings_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tests.helpers.crowd import Result

# A connection that stalls from its beginning is followed by one that is given something.
MIXED = tuple(kind for kind in FAULTS if kind != "mute after end")
FREE_SECONDS = 10.0  # for slots and threads to be given back, once all streams are over


def arguments() -> argparse.Namespace:
    made = parser("python -m tests.chaos.engines", __doc__.partition("\n")[0], every=10.0, lifetime=30.0)
    made.add_argument("--service", action="append", choices=DIALECTS, help="may be given several times")
    made.add_argument("--fault", action="append", choices=FAULTS, help="may be given several times (default: all)")
    return made.parse_args()


async def run(name: str, options: argparse.Namespace) -> tuple[Result, Counting, str]:
    crowd = Crowd(options.streams, options.minutes * 60, tuple(options.fault or MIXED), options.every, options.seed)
    counting = Counting(crowd.streams)
    patience = {"answer_seconds": 60, "upstream_silence": 1, "upstream_lifetime": options.lifetime / options.pace}
    with serving(DIALECTS[name](), counting) as address:
        async with service(
            **settings_for(name, address), max_sessions=options.streams, log_level="error", **patience
        ) as url:
            result = await crowd.talk(url, options.pace)
            return result, counting, await taken(url.replace("ws://", "http://"))


async def taken(url: str) -> str:
    """Say which slots and threads stay taken; nothing if none does."""
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
    head = ("service", *HEAD[1:], "cut words", "still taken")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    failed = False
    for name in options.service or DIALECTS:
        result, counting, left = asyncio.run(run(name, options))
        cells = (*row(name, result), len(counting.cut), left or "nothing")
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        for trouble in result.trouble:
            print(f"  {trouble}", flush=True)
        failed = failed or bool(result.trouble or left)
    sys.exit(failed)


if __name__ == "__main__":
    main()
