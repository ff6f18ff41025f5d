"""Runs clients of other projects' packages in a process of their own, in any version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.command import environment, serving, url_in
from tests.helpers.wheel import PIP

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Mapping

PATIENCE = 180.0  # seconds, for a process of clients


@dataclass(frozen=True)
class Share:
    """The connections of one kind of client, with one version of its package."""

    kind: str
    packages: Path | None  # the folder of an older version; None: the installed one
    connections: int
    url: str  # of the service, http://host:port
    folder: Path  # for files of the clients


Connect = Callable[[Share], Iterable[tuple[dict[str, Any], list[str]]]]
"""Makes the connections of a share; returns for each its JSON object, and its faults."""


@cache
def installed(requirement: str, folder: Path) -> Path:
    """Install a package and its dependencies into a folder."""
    subprocess.run([*PIP, "install", "--target", folder, requirement], check=True, timeout=PATIENCE)
    return folder


def run(script: Path, job: Mapping[str, Any], packages: Path | None = None) -> list[dict[str, Any]]:
    """Run a script with the packages of a folder, or the installed ones; return the JSON object of each connection."""
    variables = {} if packages is None else {"PYTHONPATH": str(packages)}
    ran = subprocess.run(
        [sys.executable, script, json.dumps(job)],
        env=environment(**variables),
        cwd=os.path.sep,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def run_shares(parser: argparse.ArgumentParser, kinds: Collection[str], older: Iterable[str], connect: Connect) -> None:
    """Run a command: connections of all kinds and versions to a service, divided evenly. Exits with 1 after a fault.

    `older` are the requirements of older versions of the package.
    """
    parser.add_argument("--connections", type=int, default=100)
    options = parser.parse_args()
    begun, clean, count = time.monotonic(), 0, 0
    quiet = {"SPEECHBRIDGE_LOG_LEVEL": "error"}  # nobody reads its log: a full pipe would stop it
    with tempfile.TemporaryDirectory() as name, serving(**quiet) as (_, announced):
        folder = Path(name)
        url = url_in(announced).replace("ws://", "http://")
        versions = [None, *(installed(requirement, folder / f"older-{nth}") for nth, requirement in enumerate(older))]
        shares = [(kind, packages) for kind in kinds for packages in versions]
        for nth, (kind, packages) in enumerate(shares):
            connections = (options.connections + len(shares) - 1 - nth) // len(shares)
            share = Share(kind, packages, connections, url, folder)
            for seen, faults in connect(share) if connections else ():
                count, clean = count + 1, clean + (not faults)
                for fault in faults:
                    print(f"version {seen['version']}, {kind}: {fault}")  # noqa: T201 # a command's output
    print(f"{clean} of {count} connections clean, in {time.monotonic() - begun:.0f} s")  # noqa: T201 # likewise
    sys.exit(clean != count)
