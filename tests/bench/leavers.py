"""How long does a client that stops reading, or vanishes without a FIN, hold a session, a thread and a descriptor?

Method: the service in a process of its own. The client that stops reading has an upstream that sends without end. The
client that vanishes has an upstream that only reads; it sits in a network namespace of its own, whose link is taken
down, which needs root and `ip`. The service's /proc is read until threads and descriptors are as many as before.

    python -m tests.bench.leavers

Last result: `results/leavers.md`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from tests.bench.report import keep
from tests.helpers.command import serving, url_in

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 120.0
NAMESPACE = "speechbridge-bench"
SERVICE, CLIENT = "10.213.77.1", "10.213.77.2"  # the addresses of the link's two ends


def sending(audio: Iterator[bytes]) -> Iterator[str]:
    next(audio)
    while True:
        yield "x" * 65536


def reading(audio: Iterator[bytes]) -> Iterator[str]:
    yield f"received {len(next(audio))}"
    for _ in audio:
        pass


def held(pid: int) -> tuple[int, int]:
    """Return a process's threads and descriptors."""
    process = Path(f"/proc/{pid}")
    return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))


async def stop_reading(url: str, pid: int) -> float:
    async with connect(f"{url}/ws_a", compression=None) as warm:
        await warm.send(b"!")
        await warm.recv()
        warm.transport.abort()
    await asyncio.sleep(3)
    before = held(pid)
    async with connect(f"{url}/ws_a", compression=None, ping_interval=None) as socket:
        await socket.send(b"!")
        await socket.recv()
        socket.transport.pause_reading()
        begun = time.monotonic()
        return await until_free(pid, before, begun)


async def until_free(pid: int, before: tuple[int, int], begun: float) -> float:
    while held(pid) > before:
        await asyncio.sleep(0.1)
        if time.monotonic() - begun > PATIENCE:
            return float("inf")
    return time.monotonic() - begun


def vanish(url: str, pid: int) -> float:
    """Run a client in another network namespace, then take the link down; return the seconds until all is free."""
    program = (
        "import asyncio, sys\n"
        "from websockets.asyncio.client import connect\n"
        "async def main():\n"
        "    async with connect(sys.argv[1] + '/ws_a', compression=None) as socket:\n"
        "        await socket.send(b'!')\n"
        "        print(await socket.recv(), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    before = held(pid)
    command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", program, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        client.stdout.readline()
        subprocess.run(["ip", "link", "set", "sb-service", "down"], check=True)
        begun = time.monotonic()
        took = asyncio.run(until_free(pid, before, begun))
        client.kill()
    return took


def add_link() -> None:
    """Add a network namespace for the client, and a link between it and this one."""
    for command in (
        f"netns add {NAMESPACE}",
        "link add sb-service type veth peer name sb-client",
        f"link set sb-client netns {NAMESPACE}",
        f"addr add {SERVICE}/30 dev sb-service",
        "link set sb-service up",
        f"-n {NAMESPACE} addr add {CLIENT}/30 dev sb-client",
        f"-n {NAMESPACE} link set sb-client up",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def answer(stopped: float, vanished: float | None) -> str:
    text = f"A client that stops reading: all free after {stopped:.1f} s. One that vanishes: "
    text += "not measured, that needs root and `ip`." if vanished is None else f"after {vanished:.1f} s."
    return keep("leavers", __doc__.partition("\n")[0], text, {"stops reading": stopped, "vanishes": vanished})


def main() -> str:
    here = "tests.bench.leavers"
    with serving(SPEECHBRIDGE_START=f"{here}:sending", SPEECHBRIDGE_LOG_LEVEL="error") as (process, announced):
        url = url_in(announced)
        stopped = asyncio.run(stop_reading(url, process.pid))
    if not shutil.which("ip") or os.geteuid() != 0:
        return answer(stopped, None)
    try:
        add_link()
        variables = {
            "SPEECHBRIDGE_HOST": SERVICE,
            "SPEECHBRIDGE_PUBLISHED_ON": "127.0.0.1",
            "SPEECHBRIDGE_LOG_LEVEL": "error",
        }
        with serving(SPEECHBRIDGE_START=f"{here}:reading", **variables) as (process, announced):
            url = url_in(announced)
            return answer(stopped, vanish(url, process.pid))
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)
        subprocess.run(["ip", "link", "del", "sb-service"], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
