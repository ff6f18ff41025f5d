"""How soon does each of a hundred sessions that begin at once get its first answer? How soon is one too many refused?

Method: service, scripted upstream and clients in three processes on one machine. Each client connects, sends 100 ms of
audio and waits for the answer, which passes both of the bridge's queues, Rev.ai's SDK and the upstream. Then, with all
sessions taken, one more client connects and is refused. Times count from before the TCP connection. Five rounds.

    python -m tests.bench.crowd

Last result: `results/crowd.md`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from tests.bench.report import keep
from tests.helpers.command import serving, url_in
from tests.helpers.service import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = 100
ROUNDS = 5


@contextmanager
def upstream() -> Iterator[str]:
    script = [[{"do": "greet"}, {"do": "echo"}, {"do": "end", "code": 1000, "reason": "End of input. Closing"}]]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(script, file)
        file.flush()
        command = [sys.executable, "-m", "speechbridge.testing", "--script", file.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            yield process.stdout.readline().removeprefix("listening on ").strip()
            process.terminate()


async def rounds(url: str) -> str:
    first_answers: list[float] = []
    refusals: list[float] = []

    async def session(stack: AsyncExitStack) -> None:
        begun = time.monotonic()
        socket = await stack.enter_async_context(connect(url + STREAM, compression=None))
        await socket.recv()
        await socket.send(bytes(3200))
        await socket.recv()
        first_answers.append(time.monotonic() - begun)

    for _ in range(ROUNDS):
        async with AsyncExitStack() as stack:
            await asyncio.gather(*(session(stack) for _ in range(SESSIONS)))
            begun = time.monotonic()
            async with connect(url + STREAM, compression=None) as socket:
                await socket.wait_closed()
            refusals.append(time.monotonic() - begun)
            assert socket.close_code == 4029
        await asyncio.sleep(1)  # the threads of the ended sessions stop
    refusal = 1000 * statistics.median(refusals)
    answer = f"""
{SESSIONS} sessions that begin at once, {ROUNDS} times: first answer after {statistics.median(first_answers):.2f} s
(median), the last after {max(first_answers):.2f} s. One more is refused after {refusal:.0f} ms.
"""
    return keep("crowd", __doc__.partition("\n")[0], answer, {"first answers": first_answers, "refusals": refusals})


def main() -> str:
    with upstream() as upstream_url:
        variables = {"SPEECHBRIDGE_REVAI_URL": upstream_url, "SPEECHBRIDGE_LOG_LEVEL": "error"}
        with serving(**variables, SPEECHBRIDGE_MAX_SESSIONS=str(SESSIONS)) as (_, announced):
            url = url_in(announced)
            return asyncio.run(rounds(url))


if __name__ == "__main__":
    main()
