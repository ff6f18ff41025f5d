"""This machine: Python, the port, and PortAudio with its devices."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from speechbridge import __version__
from speechbridge.blocking import in_own_thread
from speechbridge.cli.doctor.web import Unanswered, fetch, http_url
from speechbridge.cli.exits import Failed
from speechbridge.cli.listening import try_to_listen
from speechbridge.cli.local import local_url

if TYPE_CHECKING:
    from speechbridge.cli.doctor.findings import Case, Report

OLDEST = (3, 11)
MICROPHONES = [sys.executable, "-P", "-m", "speechbridge", "mic", "--list"]
PREFIX = "speechbridge: "  # of an error's line

# Docker and Podman put these files into each container. Kubernetes and Podman set these variables.
CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container")


async def python(_case: Case, report: Report) -> None:
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform(terse=True)}"
    if sys.version_info < OLDEST:  # pip refuses such a Python, but can be told to ignore that
        report.wrong(found, "install 3.11 or newer")
        return
    report.ok(f"{found}, speechbridge {__version__}")
    if sys.platform != "win32":
        try:
            import uvloop  # noqa: F401, PLC0415 # only to see whether it is installed
        except ImportError:
            report.note("uvloop is missing, so the service is slower", "install it with pip")


async def port(case: Case, report: Report) -> None:
    """Check whether the port is free, or a speechbridge answers there."""
    settings = case.settings
    where = f"{settings.host}:{settings.port}"
    try:
        await in_own_thread(lambda: try_to_listen(settings), "doctor-port")  # it may block in a DNS lookup
    except Failed as failure:
        await _occupied(case, report, str(failure).partition(": ")[2])
    else:
        report.ok(f"{where} is free")


async def _occupied(case: Case, report: Report, why: str) -> None:
    base = http_url(local_url(case.settings))
    where = f"{case.settings.host}:{case.settings.port}"
    found, _, cure = why.partition("; ")
    live = ready = None
    if found == "the port is taken":
        with suppress(Unanswered):
            live, ready = await fetch(base + "/livez"), await fetch(base + "/readyz")
    if live is None or ready is None or live.body != "alive\n":
        report.wrong(f"{where}: {found}" + (", not by a speechbridge" if live is not None else ""), cure)
        return
    report.ok(f"a speechbridge listens at {where}")
    for line in ready.body.splitlines()[1:]:
        what, _, how = line.partition(": ")
        if ready.status != 200 and not how.startswith("ok"):
            report.wrong(f"it is not ready: {what}: {how}", "see its log")


async def microphone(_case: Case, report: Report) -> None:
    """List the microphones in a process of its own: PortAudio may hang, crash, and write to stderr."""
    process = await asyncio.create_subprocess_exec(
        *MICROPHONES,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        listed, messages = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    devices = listed.decode(errors="replace").splitlines()
    errors = [line for line in messages.decode(errors="replace").splitlines() if line.startswith(PREFIX)]
    if process.returncode == 0:
        report.ok(f"{len(devices)} found: {', '.join(' '.join(device.split()) for device in devices)}")
        return
    why = (
        errors[-1].removeprefix(PREFIX) if errors else f"PortAudio ended with status {process.returncode}: reinstall it"
    )
    found, _, cure = why.partition(": ")
    if found == "there is no microphone":  # normal on servers
        report.note(found, cure)
    elif found == "PortAudio is missing" and in_container():
        report.note("PortAudio is missing, as in most containers", "only `mic` needs it")
    else:
        report.wrong(found, f"{cure}; only `mic` needs it (--skip {report.subject} leaves this out)")


def in_container() -> bool:
    """Guess whether this process runs in a container, where no microphone is expected."""
    return any(name in os.environ for name in CONTAINER_VARIABLES) or any(map(os.path.exists, CONTAINER_FILES))
