"""Break the upstream of many streams at random, and count what is lost.

For example: python -m tests.chaos --streams 20 --minutes 10 --pace 10 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from speechbridge.recognizer.server import serving
from tests.helpers import plain_sdk
from tests.helpers.breaking_upstream import AT_EOS_ONLY, KINDS, MUTE_AFTER_ROTATION
from tests.helpers.command import environment
from tests.helpers.crowd import Crowd, Result
from tests.helpers.encoded import EXACT_WEBM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIXED, ROTATION = "mixed", "rotation"
WEBM = "mixed, clients that send WebM"

# Runs of the library alone, with an SDK without timeouts.
PLAIN = {f"{kind}, plain SDK": kind for kind in plain_sdk.PLAIN_KINDS}
FINALS = "rotation at finals, plain SDK"

FAULTS = (*KINDS, MUTE_AFTER_ROTATION, MIXED, WEBM, ROTATION, *PLAIN, FINALS)
HEAD = ("fault", "streams", "breaks", "connections", "most open", "lost", "doubled", "wrong times", "worst s", "ran s")


def parser(prog: str, description: str, *, every: float, lifetime: float) -> argparse.ArgumentParser:
    """Make a parser with the options of all chaos commands."""
    made = argparse.ArgumentParser(prog=prog, description=description)
    made.add_argument("--streams", type=int, default=20)
    made.add_argument("--minutes", type=float, default=10.0, help="of audio in each stream (default: %(default)g)")
    made.add_argument("--pace", type=float, default=10.0, help="multiple of real time (default: %(default)g)")
    made.add_argument("--seed", type=int, help="of the faults; the printed one replays them")
    made.add_argument("--every", type=float, default=every, help="mean seconds of audio to a break")
    made.add_argument("--lifetime", type=float, default=lifetime, help="seconds of audio from rotation to rotation")
    return made


def arguments() -> argparse.Namespace:
    made = parser("python -m tests.chaos", __doc__.partition("\n")[0], every=3.5, lifetime=10.0)
    made.add_argument(
        "--fault",
        action="append",
        choices=FAULTS,
        help="may be given several times (default: each on its own, and all mixed)",
    )
    return made.parse_args()


@asynccontextmanager
async def service(**settings: object) -> AsyncIterator[str]:
    """Run `speechbridge serve` as a process; yield its URL."""
    variables = {f"SPEECHBRIDGE_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "speechbridge", "serve", "--port", "0"),
        env=environment(**variables),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        url = ""
        while not url:
            line = await process.stdout.readline()
            if not line:
                raise RuntimeError("the service did not start")
            words = line.decode().split()
            url = next((word.removeprefix("url=") for word in words if word.startswith("url=")), "")
        yield url
    finally:
        process.terminate()
        await process.communicate()


async def run(fault: str, options: argparse.Namespace) -> Result:
    # The faults at EOS only are left out of the mix: a connection with one of them does not break before.
    mixed = tuple(kind for kind in KINDS if kind not in AT_EOS_ONLY)
    kinds = {MIXED: mixed, WEBM: mixed, ROTATION: (), FINALS: ()}.get(fault, (PLAIN.get(fault, fault),))
    crowd = Crowd(options.streams, options.minutes * 60, kinds, options.every, options.seed)
    lifetime = options.lifetime / options.pace
    if fault in PLAIN or fault == FINALS:
        rotates = MUTE_AFTER_ROTATION in kinds or fault == FINALS
        return await plain_sdk.talk(crowd, options.pace, lifetime if rotates else None, knows_quiet=fault != FINALS)
    # The time for last words must be enough for several faults in a row. A server that is mute after the end uses all
    # of it, so it gets less.
    answer = 10 if fault == "mute after end" else 60
    timeouts: dict[str, float] = {"connect_seconds": 1, "answer_seconds": answer, "upstream_silence": 1}
    if fault == ROTATION:
        timeouts = {"upstream_lifetime": lifetime}
    elif fault == MUTE_AFTER_ROTATION:
        timeouts["upstream_lifetime"] = lifetime
    async with (
        serving(crowd.upstream, handshake_timeout=None) as upstream,
        service(revai_url=upstream.url, max_sessions=options.streams, log_level="error", **timeouts) as url,
    ):
        return await crowd.talk(url, options.pace, EXACT_WEBM if fault == WEBM else None)


def row(fault: str, result: Result) -> tuple[object, ...]:
    return (
        fault,
        len(result.streams),
        sum(result.breaks.values()),
        sum(len(stream.given) for stream in result.streams),
        max(stream.most_open for stream in result.streams),
        f"{result.lost_samples} samples, {sum(received.missing for received in result.received)} words",
        sum(received.doubled for received in result.received),
        sum(received.off for received in result.received),
        f"{result.worst():.2f}",
        f"{result.seconds:.0f}",
    )


def main() -> None:
    options = arguments()
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # otherwise it logs each handshake that a client left
    options.seed = time.time_ns() % 10**6 if options.seed is None else options.seed
    print(
        f"{options.streams} streams of {options.minutes:g} min at {options.pace:g} x real time, a break about every"
        f" {options.every:g} s of audio; --seed {options.seed} replays it\n"
    )
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    failed = False
    for fault in options.fault or FAULTS:
        result = asyncio.run(run(fault, options))
        print(f"| {' | '.join(map(str, row(fault, result)))} |", flush=True)
        for trouble in result.trouble:
            failed = True
            print(f"  {trouble}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
